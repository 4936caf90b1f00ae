package vectors_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/session-authority/session-authority/clients/go/internal/vectors"
)

// The files whose cases the tests of this module run, each with the package of the test that runs
// it. Add a new file here.
var handled = []string{
	"addresses",  // internal/requests
	"cache",      // internal/nearcache
	"conduct",    // sessionhttp
	"cookies",    // sessionhttp
	"errors",     // sessionauthority
	"next_paths", // internal/requests
	"origins",    // sessionhttp
	"presented",  // sessionhttp
	"signatures", // webhook
	"verdicts",   // sessionauthoritytest
}

func TestEachFileIsHandled(t *testing.T) {
	for _, name := range vectors.Names(t) {
		if !slices.Contains(handled, name) {
			t.Errorf("no test of this module runs %s.json", name)
		}
	}
}

func TestEachSkipNamesACaseAndAReason(t *testing.T) {
	for id, reason := range vectors.Skips(t) {
		name, caseID, _ := strings.Cut(id, "/")
		isThere := slices.Contains(vectors.Names(t), name) &&
			slices.ContainsFunc(vectors.Load(t, name), func(c *vectors.Case) bool {
				return c.ID == caseID
			})
		if !isThere {
			t.Errorf("%s: there is no such case", id)
		}
		if strings.TrimSpace(reason) == "" {
			t.Errorf("%s: has no reason", id)
		}
	}
}
