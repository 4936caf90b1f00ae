package main

import (
	"testing"

	"github.com/session-authority/session-authority/clients/go/examples/walk"
)

func TestAUserSignsInSeesTheDevicesAndSignsOut(t *testing.T) { walk.Through(t, newApp) }
