package alerts

import "strings"

// inert are the characters that begin mentions, links, code and tables in the markups
// of chats and mail, and look-alikes that do not. An underscore may stay: it is in many
// names, and slants letters at worst.
var inert = strings.NewReplacer("<", "‹", ">", "›", "`", "'", "*", "∗", "[", "⟦", "]", "⟧", "@", "＠", "|", "¦", "\\", "＼")

// Inert makes a value that was cleaned safe in any markup: for sinks that hand texts
// on to templates and programs that are not known here. It is a Style's Escape.
func Inert(s string) string { return inert.Replace(s) }
