package course

import (
	"flag"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// valueLimit is the size in bytes of the largest value of a flag.
const valueLimit = 100

// Flag is a flag that a lesson declares.
type Flag struct {
	Name, Usage string
	Kind        string // "bool", "int64", "duration", ...
	Default     string
	Open        bool // its default is known only when the lesson runs
}

// Flags are the flags that a lesson declares.
type Flags struct {
	All []Flag // in the order of the source
	set *flag.FlagSet
}

// FindFlags reads a lesson's flags from its source: every call of a function of
// the package flag with a name, a default and a usage. So they are known before
// the lesson is built, and can be checked the way the lesson itself does. A
// source that does not compile has the flags that can be read in it.
func FindFlags(files []File) *Flags {
	f := &Flags{set: flag.NewFlagSet("", flag.ContinueOnError)}
	for _, file := range files {
		tree, _ := parser.ParseFile(token.NewFileSet(), file.Path, file.Source, parser.SkipObjectResolution)
		if tree == nil {
			continue
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				f.add(call)
			}
			return true
		})
	}
	return f
}

// Arguments returns the command line for the values of a form. A flag that is
// empty, or that has its default, is left out. It is an error when the lesson has
// no such flag, or would not take the value.
func (f *Flags) Arguments(form map[string][]string) ([]string, error) {
	for name := range form {
		if f.set.Lookup(name) == nil {
			return nil, fmt.Errorf("there is no flag %.50q", name)
		}
	}
	var args []string
	for _, declared := range f.All {
		name, values := declared.Name, form[declared.Name]
		if len(values) == 0 || len(values) == 1 && values[0] == "" {
			continue
		}
		value := values[0]
		if len(values) > 1 || len(value) > valueLimit || !printable(value) {
			return nil, fmt.Errorf("-%s takes one value of at most %d bytes, of printable text",
				name, valueLimit)
		}
		if err := f.set.Set(name, value); err != nil {
			return nil, fmt.Errorf("-%s: %q is no %s", name, value, declared.Kind)
		}
		switch set := f.set.Lookup(name).Value.String(); {
		case set == declared.Default && !declared.Open:
		case declared.Kind != "bool":
			args = append(args, "-"+name, value)
		case set == "true":
			args = append(args, "-"+name)
		default:
			args = append(args, "-"+name+"=false")
		}
	}
	return args, nil
}

func printable(text string) bool {
	return utf8.ValidString(text) &&
		!strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// add takes up a flag if the call declares one.
func (f *Flags) add(call *ast.CallExpr) {
	function, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return
	}
	if pkg, ok := function.X.(*ast.Ident); !ok || pkg.Name != "flag" {
		return
	}
	kind, variable := strings.CutSuffix(function.Sel.Name, "Var")
	args := call.Args
	if variable && len(args) > 0 {
		args = args[1:]
	}
	if len(args) != 3 {
		return
	}
	name, usage := literal(args[0]), literal(args[2])
	if name == "" || strings.HasPrefix(name, "-") || strings.Contains(name, "=") ||
		f.set.Lookup(name) != nil {
		return
	}
	value := evaluate(args[1])
	number, _ := constant.Int64Val(constant.ToInt(value))
	switch kind {
	case "Bool":
		f.set.Bool(name, value.Kind() == constant.Bool && constant.BoolVal(value), usage)
	case "Int":
		f.set.Int(name, int(number), usage)
	case "Int64":
		f.set.Int64(name, number, usage)
	case "Uint":
		f.set.Uint(name, uint(number), usage)
	case "Uint64":
		f.set.Uint64(name, uint64(number), usage)
	case "Float64":
		float, _ := constant.Float64Val(constant.ToFloat(value))
		f.set.Float64(name, float, usage)
	case "Duration":
		f.set.Duration(name, time.Duration(number), usage)
	case "String":
		f.set.String(name, literal(args[1]), usage)
	default:
		return
	}
	declared := f.set.Lookup(name)
	_, usage = flag.UnquoteUsage(declared)
	f.All = append(f.All, Flag{name, usage, strings.ToLower(kind), declared.DefValue,
		value.Kind() == constant.Unknown})
}

// literal returns the string that an expression stands for, or "".
func literal(e ast.Expr) string {
	value := evaluate(e)
	if value.Kind() != constant.String {
		return ""
	}
	return constant.StringVal(value)
}

var durations = map[string]time.Duration{
	"Nanosecond": time.Nanosecond, "Microsecond": time.Microsecond,
	"Millisecond": time.Millisecond, "Second": time.Second,
	"Minute": time.Minute, "Hour": time.Hour,
}

// evaluate returns the value of a constant expression, and an unknown value for
// anything else.
func evaluate(e ast.Expr) constant.Value {
	unknown := constant.MakeUnknown()
	switch e := e.(type) {
	case *ast.BasicLit:
		return constant.MakeFromLiteral(e.Value, e.Kind, 0)
	case *ast.Ident:
		if value, err := strconv.ParseBool(e.Name); err == nil && len(e.Name) > 1 {
			return constant.MakeBool(value)
		}
	case *ast.ParenExpr:
		return evaluate(e.X)
	case *ast.SelectorExpr:
		if pkg, ok := e.X.(*ast.Ident); ok && pkg.Name == "time" && durations[e.Sel.Name] != 0 {
			return constant.MakeInt64(int64(durations[e.Sel.Name]))
		}
	case *ast.UnaryExpr:
		if x := evaluate(e.X); e.Op == token.SUB && numeric(x) {
			return constant.UnaryOp(e.Op, x, 0)
		}
	case *ast.BinaryExpr:
		x, y := evaluate(e.X), evaluate(e.Y)
		if slices.Contains([]token.Token{token.ADD, token.SUB, token.MUL}, e.Op) &&
			numeric(x) && numeric(y) {
			return constant.BinaryOp(x, e.Op, y)
		}
	}
	return unknown
}

func numeric(v constant.Value) bool {
	return v.Kind() == constant.Int || v.Kind() == constant.Float
}
