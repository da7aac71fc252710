// Package archtest keeps the shape of the repository: which packages import
// which, what lies at the top level, and a few calls nobody makes. The rules and
// their reasons are tables in rules.go; its test applies them to the whole
// module.
//
// It reads the source with go/parser. Asking `go list` would be shorter, but then
// go test does not see which files the answer depends on and repeats an old pass
// after a bad import.
package archtest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// result is what check found.
type result struct {
	// problems are sorted and each names a place, a fault and the reason why it
	// is one.
	problems []string
	// packages are those that were looked at, relative to the module.
	packages []string
}

// check applies the rules to the module that is rooted in tree.
func check(tree fs.FS) (*result, error) {
	res := &result{}
	top, err := fs.ReadDir(tree, ".")
	if err != nil {
		return nil, fmt.Errorf("read the module's root: %w", err)
	}
	for _, e := range top {
		if !slices.ContainsFunc(topLevel, func(p string) bool { ok, _ := path.Match(p, e.Name()); return ok }) {
			res.add(e.Name(), "may not lie at the top level", topLevelWhy)
		}
	}
	documented := map[string]bool{}
	err = fs.WalkDir(tree, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			if base := e.Name(); name != "." && (base == "testdata" || base[0] == '.' || base[0] == '_' || name == "bin" || name == "dist") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		src, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		pkg := path.Dir(name)
		documented[pkg] = documented[pkg] || file.Doc != nil
		res.file(fset, pkg, file)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the module: %w", err)
	}
	for pkg, ok := range documented {
		res.packages = append(res.packages, pkg)
		if !ok {
			res.add(pkg, "has no package comment", "it is the first thing a newcomer reads: say what the package promises")
		}
		if !slices.ContainsFunc(importRules, func(r importRule) bool { return matches(r.pkg, pkg) }) {
			res.add(pkg, "has no row in importRules", "whoever adds a package decides what it may import, and says why")
		}
	}
	slices.Sort(res.packages)
	slices.Sort(res.problems)
	return res, nil
}

func (r *result) add(where, what, why string) {
	r.problems = append(r.problems, where+": "+what+" ("+why+")")
}

// file checks what stands in one file of a package.
func (r *result) file(fset *token.FileSet, pkg string, file *ast.File) {
	at := func(n ast.Node) string {
		p := fset.Position(n.Pos())
		return fmt.Sprintf("%s:%d", p.Filename, p.Line)
	}
	names := map[string]string{} // local name of an import: its path
	for _, spec := range file.Imports {
		target, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue // the compiler says it
		}
		name := path.Base(target)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		names[name] = target
		r.imported(at(spec), pkg, target)
	}
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			r.add(at(f), "declares init", initWhy)
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		for _, b := range bans {
			if names[x.Name] == b.pkg && slices.Contains(b.names, sel.Sel.Name) && !matchesAny(b.may, pkg) {
				r.add(at(sel), "uses "+x.Name+"."+sel.Sel.Name, b.why)
			}
		}
		return true
	})
}

// imported checks one import.
func (r *result) imported(where, pkg, target string) {
	for _, h := range homes {
		if (target == h.library || strings.HasPrefix(target, h.library+"/")) && !matchesAny(h.may, pkg) {
			r.add(where, pkg+" imports "+target+", which belongs to "+strings.Join(h.may, ", "), h.why)
		}
	}
	ours, ok := strings.CutPrefix(target, module+"/")
	if !ok {
		return
	}
	for _, rule := range importRules {
		if !matches(rule.pkg, pkg) {
			continue
		}
		if !matchesAny(rule.may, ours) {
			may := "nothing of ours"
			if len(rule.may) > 0 {
				may = strings.Join(rule.may, ", ")
			}
			r.add(where, pkg+" imports "+ours+"; it may import "+may, rule.why)
		}
		return
	}
}

// matches tells whether a package fits a pattern of rules.go.
func matches(pattern, pkg string) bool {
	if pattern == "..." {
		return true
	}
	parent, below := strings.CutSuffix(pattern, "/...")
	return pkg == parent || below && strings.HasPrefix(pkg, parent+"/")
}

func matchesAny(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, pkg) })
}
