package main

import (
	"fmt"
	"slices"
	"strings"
)

// request is what the arguments ask for.
type request struct {
	args    []string // every flag as --name=value, then the other arguments
	help    bool
	version bool

	subcommand *subcommand // nil: to serve
	operands   []string    // what follows its name
}

// has says whether a flag of that long name was among the arguments.
func (r request) has(name string) bool {
	return slices.ContainsFunc(r.args, func(a string) bool { return strings.HasPrefix(a, "--"+name+"=") })
}

// normalize reads arguments (without the program's name) as getopt(3) and
// getopt_long(3) do, which the C program used, and returns them in one
// spelling: -p12000, -p 12000, -kD, --port 12000, --port=12000, flags and other
// arguments in any order, and -- for the end of the flags.
func normalize(rows []setting, arguments []string) (request, error) {
	var r request
	var others []string
	for i := 0; i < len(arguments); i++ {
		argument := arguments[i]
		if argument == "--" {
			others = append(others, arguments[i+1:]...)
			break
		}
		if len(argument) < 2 || argument[0] != '-' {
			others = append(others, argument)
			continue
		}
		used, err := r.flag(rows, argument, arguments[i+1:])
		if err != nil {
			return request{}, err
		}
		i += used
	}
	if len(others) > 0 {
		switch others[0] {
		case "help":
			r.help = true
		case "version":
			r.version = true
		default:
			if r.subcommand = subcommandNamed(others[0]); r.subcommand != nil {
				break
			}
			return request{}, fmt.Errorf("unexpected argument %q: %s", others[0],
				nearest(commandNames(), others[0], "", "every value belongs to a flag, such as -s HOST:PORT"))
		}
	}
	if r.subcommand != nil && !r.help && !r.version {
		r.operands = others[1:]
		if err := r.subcommand.checkOperands(r.operands); err != nil {
			return request{}, err
		}
	}
	if !r.help && !r.version {
		if err := r.checkFlags(); err != nil {
			return request{}, err
		}
	}
	return r, nil
}

// flag reads one argument that starts with "-" and returns how many of the
// following it took as its value.
func (r *request) flag(rows []setting, argument string, following []string) (used int, err error) {
	if name, isLong := strings.CutPrefix(argument, "--"); isLong {
		name, value, hasValue := strings.Cut(name, "=")
		row := byName(rows, name)
		if row == nil {
			return 0, fmt.Errorf("unknown flag --%s: %s", name, didYouMean(rows, name, "--", "magent --help lists them all"))
		}
		return r.add(row, argument, value, hasValue, following, rows)
	}
	for letters := argument[1:]; letters != ""; letters = letters[1:] {
		row := byLetter(rows, letters[0])
		if row == nil {
			return 0, fmt.Errorf("unknown flag -%c: magent --help lists them all", letters[0])
		}
		spelling := "-" + letters[:1]
		if row.value != "" {
			return r.add(row, spelling, letters[1:], len(letters) > 1, following, rows)
		}
		if _, err := r.add(row, spelling, "", false, nil, rows); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// add notes one flag in its only spelling.
func (r *request) add(row *setting, spelling, value string, hasValue bool, following []string, rows []setting) (used int, err error) {
	switch row.name {
	case "help":
		r.help = true
		return 0, nil
	case "version":
		r.version = true
		return 0, nil
	}
	if row.value == "" {
		if !hasValue {
			value = "true"
		}
		r.args = append(r.args, "--"+row.name+"="+value)
		return 0, nil
	}
	if !hasValue && len(following) > 0 && !isFlag(rows, following[0]) {
		value, hasValue, used = following[0], true, 1
	}
	spelling, _, _ = strings.Cut(spelling, "=")
	if !hasValue {
		return 0, fmt.Errorf("flag %s needs a value: write %s %s", spelling, spelling, row.value)
	}
	if value == "" {
		return 0, fmt.Errorf("the value of flag %s is empty: write %s %s", spelling, spelling, row.value)
	}
	r.args = append(r.args, "--"+row.name+"="+value)
	return used, nil
}

// isFlag says whether an argument is the bare spelling of a flag, so that it
// cannot have been meant as the value of the flag before it. "-1" is no flag.
func isFlag(rows []setting, argument string) bool {
	if name, isLong := strings.CutPrefix(argument, "--"); isLong {
		name, _, _ := strings.Cut(name, "=")
		return byName(rows, name) != nil
	}
	return len(argument) == 2 && argument[0] == '-' && byLetter(rows, argument[1]) != nil
}

func byName(rows []setting, name string) *setting {
	for i := range rows {
		if rows[i].name == name {
			return &rows[i]
		}
	}
	return nil
}

func byLetter(rows []setting, letter byte) *setting {
	for i := range rows {
		if strings.IndexByte(rows[i].letters, letter) >= 0 {
			return &rows[i]
		}
	}
	return nil
}

// didYouMean suggests the name that differs least from one that is unknown, or
// says otherwise when none is near.
func didYouMean(rows []setting, unknown, prefix, otherwise string) string {
	var names []string
	for _, row := range rows {
		names = append(names, row.name)
	}
	return nearest(names, unknown, prefix, otherwise)
}

// nearest is didYouMean for any names.
func nearest(names []string, unknown, prefix, otherwise string) string {
	best, least := "", 3
	for _, name := range names {
		if d := editDistance(unknown, name); d < least {
			best, least = name, d
		}
	}
	if best == "" {
		return otherwise
	}
	return "did you mean " + prefix + best + "?"
}

// editDistance counts the single-character changes that turn a into b
// (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
