package sessionauthority

import (
	"fmt"
	"log/slog"
)

// If a log had a live token, every reader of the log could steal the session. So Format and
// LogValue of the types with a token show "(hidden)", and not the token. The JSON form of these
// types has the token, because a handler may send the token to an app as JSON.

type (
	plainIssuedDevice IssuedDevice
	plainRenewal      Renewal
	plainPresented    Presented
)

// Format prints all fields. The token is printed as "(hidden)".
func (d IssuedDevice) Format(state fmt.State, verb rune) {
	printPlain(state, verb, d.withoutToken())
}

// LogValue returns all fields for a log line. The token is "(hidden)".
func (d IssuedDevice) LogValue() slog.Value { return slog.AnyValue(d.withoutToken()) }

func (d IssuedDevice) withoutToken() plainIssuedDevice {
	d.AccessToken = hidden(d.AccessToken)
	return plainIssuedDevice(d)
}

// Format prints all fields. The token is printed as "(hidden)".
func (r Renewal) Format(state fmt.State, verb rune) {
	printPlain(state, verb, r.withoutToken())
}

// LogValue returns all fields for a log line. The token is "(hidden)".
func (r Renewal) LogValue() slog.Value { return slog.AnyValue(r.withoutToken()) }

func (r Renewal) withoutToken() plainRenewal {
	r.AccessToken = hidden(r.AccessToken)
	return plainRenewal(r)
}

// Format prints all fields. The token is printed as "(hidden)".
func (p Presented) Format(state fmt.State, verb rune) {
	printPlain(state, verb, p.withoutToken())
}

// LogValue returns all fields for a log line. The token is "(hidden)".
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

// printPlain prints plain for a Format method. The type of plain must have no Format method,
// because that method would call printPlain again.
func printPlain(state fmt.State, verb rune, plain any) {
	_, _ = fmt.Fprintf(state, fmt.FormatString(state, verb), plain)
}
