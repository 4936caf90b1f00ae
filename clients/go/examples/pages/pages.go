// Package pages has the HTML of the example programs: the sign-in form, the first page of a user,
// and the form for a new password.
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

// Page has the contents of a page. If User is empty, the page is the sign-in form.
type Page struct {
	// User is the ID of the user who is signed in.
	User string
	// IsChanging is true if the page is the form for a new password. IsChanged is true if the
	// password was changed.
	IsChanging, IsChanged bool
	// Again is true if a user who is signed in must sign in once more.
	Again bool
	// Name is the user name that the sign-in form shows at first. Problem says why the form was
	// refused.
	Name, Problem string
	// RequestID identifies the form, so that a double click makes only one sign-in.
	RequestID string
}

// Show writes a page.
func Show(w http.ResponseWriter, status int, shown Page) {
	shown.RequestID = uuid.NewString()
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = page.Execute(w, shown) // an error means that the client has disconnected
}
