package sessionauthority_test

import (
	"os"
	"strings"
	"testing"
)

// Each block of Go in the README is a part of example_test.go, which is compiled.
func TestTheReadmeShowsCodeThatIsTested(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	tested, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(readme), "\n```go\n")[1:]
	if len(blocks) < 3 {
		t.Fatalf("the README has %d blocks of Go", len(blocks))
	}
	for _, block := range blocks {
		block, _, _ = strings.Cut(block, "\n```")
		if !strings.Contains(flat(string(tested)), flat(block)) {
			t.Errorf("example_test.go has no such lines:\n%s", block)
		}
	}
}

// flat removes the indentation of all lines.
func flat(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimSpace(line)
	}
	return strings.Join(lines, "\n")
}
