package main

import (
	"bytes"
	"fmt"
	"os"

	"example.com/etcd-by-example/classroom/drawing"
	"example.com/etcd-by-example/classroom/history"
)

// draw draws a record that was saved, as SVG, into a file or on standard output.
func draw(file string, o drawing.Options, out string) error {
	kept, err := history.LoadFile(file)
	if err != nil {
		return fmt.Errorf("draw: %w", err)
	}
	picture, err := drawing.New(kept, o)
	if err != nil {
		return fmt.Errorf("draw %s: %w", file, err)
	}
	if out == "" {
		return picture.Write(os.Stdout)
	}
	var svg bytes.Buffer
	if err := picture.Write(&svg); err != nil {
		return err
	}
	if err := os.WriteFile(out, svg.Bytes(), 0o644); err != nil {
		return fmt.Errorf("draw: %w", err)
	}
	fmt.Printf("Drawn: revisions %d to %d.\n", picture.First, picture.Last)
	return nil
}
