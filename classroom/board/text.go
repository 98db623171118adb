package board

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"example.com/etcd-by-example/classroom/drawing"
)

// cut shortens a text to a number of characters.
func cut(text string, length int) string {
	if len(text) <= length { // No text has more characters than bytes.
		return text
	}
	seen := 0
	for at := range text {
		if seen == length-1 && utf8.RuneCountInString(text[at:]) > 1 {
			return text[:at] + "…"
		}
		seen++
	}
	return text
}

// short returns a value in one line.
func short(raw []byte, length int) string {
	return cut(drawing.Visible(string(raw[:min(len(raw), 4*length)])), length)
}

// The kinds of values, as they are called on the page.
const (
	kindText   = "text"
	kindJSON   = "JSON"
	kindBinary = "binary"
)

// kindOf says how a value is shown at its full length.
func kindOf(raw []byte) string {
	switch start := bytes.TrimSpace(raw); {
	case !utf8.Valid(raw) || bytes.IndexByte(raw, 0) >= 0:
		return kindBinary
	case len(start) > 0 && (start[0] == '{' || start[0] == '[') && json.Valid(raw):
		return kindJSON
	default:
		return kindText
	}
}

// long returns a value in as many lines as it needs.
func long(raw []byte) string {
	switch kindOf(raw) {
	case kindBinary:
		return hex.Dump(raw)
	case kindJSON:
		var indented bytes.Buffer
		if json.Indent(&indented, raw, "", "  ") == nil {
			raw = indented.Bytes()
		}
	}
	lines := strings.Split(string(raw), "\n")
	for i, line := range lines {
		lines[i] = printable(strings.TrimSuffix(line, "\r"))
	}
	return strings.Join(lines, "\n")
}

// bytesOf returns a size for people.
func bytesOf(size int64) string {
	switch {
	case size < 10_000:
		return fmt.Sprintf("%d bytes", size)
	case size < 10_000_000:
		return fmt.Sprintf("%d kB", size/1000)
	default:
		return fmt.Sprintf("%d MB", size/1_000_000)
	}
}
