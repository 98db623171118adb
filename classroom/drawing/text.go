package drawing

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Visible returns what may be shown of bytes that somebody else wrote: what is
// no UTF-8 as \xNN, and what cannot be seen, or would turn the text around it,
// by its number.
func Visible(raw string) string {
	var text strings.Builder
	for len(raw) > 0 {
		r, size := utf8.DecodeRuneInString(raw)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&text, `\x%02x`, raw[0])
		case r < ' ':
			text.WriteRune('\u2400' + r) // The picture of the control character.
		case !unicode.IsPrint(r):
			fmt.Fprintf(&text, "⟨U+%04X⟩", r)
		default:
			text.WriteRune(r)
		}
		raw = raw[size:]
	}
	return text.String()
}

// longest is how many cells of a text are shown at most. Four times as many bytes are
// looked at, as a character may have.
const longest = 200

// Lines breaks text into lines of so many cells, where it has blanks. A longer word has
// a line of its own.
func Lines(text string, cells int) []string {
	var lines []string
	line, used := "", 0
	for word := range strings.FieldsSeq(Visible(text)) {
		wide := 0
		for _, r := range word {
			wide += width(r)
		}
		if line != "" && used+1+wide > cells {
			lines, line, used = append(lines, line), "", 0
		}
		if line != "" {
			line, used = line+" ", used+1
		}
		line, used = line+word, used+wide
	}
	return append(lines, line)
}

// start returns the beginning of a text, made visible, in no more than a number of
// cells, or nothing when there is no room for any.
func start(raw string, cells int) string {
	text := []rune(Visible(raw[:min(len(raw), 4*longest)]))
	switch n := fit(slices.All(text), len(text), cells); n {
	case len(text):
		return string(text)
	case 0:
		return ""
	default:
		return string(text[:n]) + "…"
	}
}

// ending returns the end of a text in the same way: that is where keys differ.
func ending(raw string, cells int) string {
	text := []rune(Visible(raw[max(0, len(raw)-4*longest):]))
	switch n := fit(slices.Backward(text), len(text), cells); n {
	case len(text):
		return string(text)
	case 0:
		return ""
	default:
		return "…" + string(text[len(text)-n:])
	}
}

// fit returns how many of count characters fit: all of them, or as many as leave one
// cell free.
func fit(text iter.Seq2[int, rune], count, cells int) int {
	cells = min(cells, longest-1)
	fits, used, seen := 0, 0, 0
	for _, r := range text {
		seen++
		if used += width(r); used > cells {
			return fits
		}
		if used < cells {
			fits = seen
		}
	}
	return count
}

// width returns how many cells of a monospaced font a character takes, at most.
func width(r rune) int {
	if r < 0x1100 {
		return 1
	}
	return 2
}
