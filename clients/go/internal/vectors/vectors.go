// Package vectors loads the test cases that all clients share. The files with the cases are in
// clients/vectors.
package vectors

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
)

// Case is one test case of a file in clients/vectors.
type Case struct {
	ID       string
	Given    json.RawMessage
	Expected json.RawMessage
	// Settings are the settings of the file. If the case has a setting of its own, this setting
	// replaces the setting of the file.
	Settings Settings
}

// Settings are the settings of an app, under the names that the vectors use.
type Settings struct {
	TokenCookie     string   `json:"token_cookie"`
	DeviceCookie    string   `json:"device_cookie"`
	SameSite        string   `json:"same_site"`
	DeviceSameSite  *string  `json:"device_same_site"`
	InsecureCookies bool     `json:"insecure_cookies"`
	DeviceHeader    string   `json:"device_header"`
	Bearer          bool     `json:"bearer"`
	CheckOrigin     bool     `json:"check_origin"`
	TrustedOrigins  []string `json:"trusted_origins"`
	TrustedProxies  []string `json:"trusted_proxies"`
	ReturnPaths     []string `json:"return_paths"`
	PassivePaths    []string `json:"passive_paths"`
	SignInURL       *string  `json:"sign_in_url"`
}

// Pairs are the names and values of headers, in the order of arrival. Each character of a value
// stands for one byte.
type Pairs [][2]string

// Header returns the headers in the form of net/http.
func (p Pairs) Header() http.Header {
	header := http.Header{}
	for _, pair := range p {
		header.Add(pair[0], Bytes(pair[1]))
	}
	return header
}

// Bytes returns the bytes of a text in which each character stands for one byte.
func Bytes(text string) string {
	made := make([]byte, 0, len(text))
	for _, letter := range text {
		made = append(made, byte(letter))
	}
	return string(made)
}

// Folder returns the path of the folder clients/vectors. The second result is false if the folder
// is missing, because only this Go module is there and not the whole repository.
func Folder() (string, bool) {
	_, file, _, _ := runtime.Caller(0)
	folder := filepath.Join(filepath.Dir(file), "..", "..", "..", "vectors")
	found, err := os.Stat(folder)
	return folder, err == nil && found.IsDir()
}

// Run runs a subtest for each case of a file. It skips the cases that Skips returns. name is the
// name of the file without ".json".
func Run(t *testing.T, name string, run func(*testing.T, *Case)) {
	t.Helper()
	skips := Skips(t)
	for _, each := range Load(t, name) {
		t.Run(name+"/"+each.ID, func(t *testing.T) {
			if reason, isSkipped := skips[name+"/"+each.ID]; isSkipped {
				t.Skip(reason)
			}
			run(t, each)
		})
	}
}

// Load returns the cases of a file. name is the name of the file without ".json". Load skips the
// test if the folder of the files is missing.
func Load(t *testing.T, name string) []*Case {
	t.Helper()
	folder, has := Folder()
	if !has {
		t.Skip("the vectors are part of a checkout, not of this module")
	}
	data, err := os.ReadFile(filepath.Join(folder, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Settings json.RawMessage
		Cases    []*Case
	}
	Decode(t, data, &file)
	if len(file.Cases) == 0 {
		t.Fatalf("%s has no cases", name)
	}
	if len(file.Settings) == 0 {
		return file.Cases // `settings` of these cases are not settings of an app
	}
	for _, each := range file.Cases {
		var given struct{ Settings json.RawMessage }
		Decode(t, each.Given, &given)
		for _, settings := range []json.RawMessage{file.Settings, given.Settings} {
			if len(settings) > 0 {
				DecodeStrictly(t, settings, &each.Settings)
			}
		}
	}
	return file.Cases
}

// Skips returns the cases that the tests of the Go client skip. The key is FILE/ID of a case, and
// the value is the reason.
func Skips(t *testing.T) map[string]string {
	t.Helper()
	_, file, _, _ := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(file), "..", "..", "vectors.skip.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	skips := map[string]string{}
	Decode(t, data, &skips)
	return skips
}

// Names returns the names of all files in clients/vectors, without ".json" and in alphabetical
// order.
func Names(t *testing.T) []string {
	t.Helper()
	folder, has := Folder()
	if !has {
		t.Skip("the vectors are part of a checkout, not of this module")
	}
	paths, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, path := range paths {
		names[filepath.Base(path[:len(path)-len(".json")])] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// Decode decodes JSON into the pointer into. It fails the test if the JSON is malformed.
func Decode(t *testing.T, data []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

// DecodeStrictly decodes JSON into the pointer into. It fails the test if the JSON is malformed, or
// has a member that the type of into does not have. A setting that this package does not know must
// not be ignored silently.
func DecodeStrictly(t *testing.T, data []byte, into any) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		t.Fatal(err)
	}
}

// Equal compares found with expected, as JSON. It fails the test if found and expected differ.
func Equal(t *testing.T, expected json.RawMessage, found any) {
	t.Helper()
	data, err := json.Marshal(found)
	if err != nil {
		t.Fatal(err)
	}
	var wanted, got any
	Decode(t, expected, &wanted)
	Decode(t, data, &got)
	wantedText, _ := json.Marshal(wanted)
	gotText, _ := json.Marshal(got)
	if !bytes.Equal(wantedText, gotText) {
		t.Errorf("expected %s\n     got %s", wantedText, gotText)
	}
}
