package utils

import (
	"log"
	"net/http"
	web "net/http"
	"os"
)

func init() {
	http.HandleFunc("/", nil)
	http.Handle("/x", http.DefaultServeMux)
	go http.ListenAndServe("", nil)
	go http.ListenAndServeTLS("", "", "", nil)
	go http.Serve(nil, nil)
	go http.ServeTLS(nil, nil, "", "")
}

func bad() {
	http.Get("")
	http.Head("")
	http.Post("", "", nil)
	http.PostForm("", nil)
	_ = web.DefaultClient
	log.Fatal()
	log.Fatalf("")
	log.Fatalln()
	log.Panic()
	log.Panicf("")
	log.Panicln()
	os.Exit(1)
}
