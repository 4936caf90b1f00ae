package sessionhttp_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	sessionauthority "github.com/session-authority/session-authority/clients/go"
	"github.com/session-authority/session-authority/clients/go/internal/fakeauthority"
	"github.com/session-authority/session-authority/clients/go/sessionhttp"
)

// slowRenewals is a service that ends a renewal only when the test sends on let. It sends the user
// agent of each renewal on agents.
type slowRenewals struct {
	*fakeauthority.Fake
	agents chan string
	let    chan struct{}
}

func (s *slowRenewals) RenewSession(
	_ context.Context, _, _ string, opts *sessionauthority.RenewSessionOptions,
) (*sessionauthority.Renewal, error) {
	s.agents <- opts.Client.UserAgent
	<-s.let
	return nil, sessionauthority.ErrUnavailable
}

func TestARenewalThatOutlivesItsRequestReadsNoHeaderOfIt(t *testing.T) {
	service := &slowRenewals{fakeauthority.New(), make(chan string), make(chan struct{})}
	flow, err := sessionhttp.NewFlow(service, sessionhttp.Settings{})
	if err != nil {
		t.Fatal(err)
	}
	defer flow.Close()
	open := func() (*sessionhttp.Visit, http.Header) {
		header := http.Header{
			"Authorization": {"Bearer token"}, "X-Device-Id": {""}, "User-Agent": {"as it came"},
		}
		visit, err := flow.Open(t.Context(), &sessionhttp.Request{Method: "POST", Header: header})
		if err != nil {
			t.Fatal(err)
		}
		return visit, header
	}
	first, _ := open()
	go func() { _, _ = first.Renew(t.Context()) }()
	<-service.agents // this renewal is under way, so the next one waits for its end
	second, header := open()
	left, leave := context.WithCancel(t.Context())
	leave()
	if _, err := second.Renew(left); !errors.Is(err, sessionhttp.ErrNoAnswer) {
		t.Fatal(err)
	}
	header["User-Agent"] = []string{"as a handler changed it"}
	service.let <- struct{}{}
	if agent := <-service.agents; agent != "as it came" {
		t.Error(agent)
	}
	service.let <- struct{}{}
}
