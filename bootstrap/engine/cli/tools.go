//go:build tools

// Package engine pins the Pulumi CLI: with this import `go mod tidy` keeps the whole build in go.mod and go.sum.
package engine

import _ "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
