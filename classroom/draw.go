package main

import (
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
	svg, err := picture.SVG()
	if err != nil {
		return err
	}
	if out == "" {
		if _, err := os.Stdout.Write(svg); err != nil {
			return fmt.Errorf("write a drawing: %w", err)
		}
		return nil
	}
	if err := os.WriteFile(out, svg, 0o644); err != nil {
		return fmt.Errorf("draw: %w", err)
	}
	fmt.Printf("Drawn: revisions %d to %d.\n", picture.First, picture.Last)
	return nil
}
