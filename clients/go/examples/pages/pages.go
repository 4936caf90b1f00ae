// Package pages has the HTML of the example programs: a form, and the first page of a user.
package pages

import (
	_ "embed"
	"html/template"
	"net/http"

	"github.com/google/uuid"
)

//go:embed page.html
var source string

var page = template.Must(template.New("page").Parse(source))

// Page is what a page shows. Without a user it is the form for signing in.
type Page struct {
	// User is signed in.
	User string
	// IsChanging: the page is the form for a new password. IsChanged: the password was changed.
	IsChanging, IsChanged bool
	// Again: a user who is signed in is to sign in once more.
	Again bool
	// Name and Problem are those of a form that was refused.
	Name, Problem string
	// RequestID makes one sign-in of a double click.
	RequestID string
}

// Show writes a page.
func Show(w http.ResponseWriter, status int, shown Page) {
	shown.RequestID = uuid.NewString()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = page.Execute(w, shown) // a client that has left gets no page
}
