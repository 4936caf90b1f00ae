package sessionauthority

import (
	"fmt"
	"log/slog"
)

// A live token in a log can be stolen from it, so what holds a token prints and logs "(hidden)" in
// its place. Marshalling to JSON keeps the token: that is how a handler answers an app.

type (
	plainIssuedDevice IssuedDevice
	plainRenewal      Renewal
	plainPresented    Presented
)

// Format prints all fields but the token.
func (d IssuedDevice) Format(state fmt.State, verb rune) {
	printPlain(state, verb, d.withoutToken())
}

// LogValue logs all fields but the token.
func (d IssuedDevice) LogValue() slog.Value { return slog.AnyValue(d.withoutToken()) }

func (d IssuedDevice) withoutToken() plainIssuedDevice {
	d.AccessToken = hidden(d.AccessToken)
	return plainIssuedDevice(d)
}

// Format prints all fields but the token.
func (r Renewal) Format(state fmt.State, verb rune) {
	printPlain(state, verb, r.withoutToken())
}

// LogValue logs all fields but the token.
func (r Renewal) LogValue() slog.Value { return slog.AnyValue(r.withoutToken()) }

func (r Renewal) withoutToken() plainRenewal {
	r.AccessToken = hidden(r.AccessToken)
	return plainRenewal(r)
}

// Format prints all fields but the token.
func (p Presented) Format(state fmt.State, verb rune) {
	printPlain(state, verb, p.withoutToken())
}

// LogValue logs all fields but the token.
func (p Presented) LogValue() slog.Value { return slog.AnyValue(p.withoutToken()) }

func (p Presented) withoutToken() plainPresented {
	p.AccessToken = hidden(p.AccessToken)
	return plainPresented(p)
}

func hidden(token string) string {
	if token == "" {
		return ""
	}
	return "(hidden)"
}

// printPlain prints a value of a type that has no Format.
func printPlain(state fmt.State, verb rune, plain any) {
	_, _ = fmt.Fprintf(state, fmt.FormatString(state, verb), plain)
}
