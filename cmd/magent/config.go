package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/urfave/cli/v2"
)

// applyConfigFile sets from a TOML file whatever neither a flag nor the
// environment has set. Its keys are the long names of the flags. A key that is
// unknown, or a value of the wrong kind, is an error that names it.
func applyConfigFile(c *cli.Context, rows []setting, path string) error {
	values := map[string]any{}
	document, err := toml.DecodeFile(path, &values)
	if err != nil {
		mend := "mend the file, or leave out --config"
		var pathError *fs.PathError
		if errors.As(err, &pathError) {
			err, mend = pathError.Err, "give --config the file that holds the settings, or leave it out"
		}
		return fmt.Errorf("config file %s: %w: %s", path, oneLine(err), mend)
	}
	// The order of the file, so that the first mistake is the one reported.
	for _, key := range document.Keys() {
		name := key.String()
		row := byName(rows, name)
		if row != nil && row.flagOnly {
			return fmt.Errorf("config file %s: key %q is a flag of the command line only: leave it out", path, name)
		}
		if row == nil {
			return fmt.Errorf("config file %s: unknown key %q: %s", path, name,
				didYouMean(rows, name, "", "the keys are the long names of the flags, see magent --help"))
		}
		text, err := configText(row, values[name])
		if err != nil {
			return fmt.Errorf("config file %s: key %q: %w", path, name, err)
		}
		if c.IsSet(name) {
			continue
		}
		if err := c.Set(name, text); err != nil {
			return fmt.Errorf("config file %s: key %q has the value %q: %w", path, name, text, err)
		}
	}
	return nil
}

// configText turns a TOML value into the text that the flag of the same name
// would have.
func configText(row *setting, value any) (string, error) {
	switch to := row.to.(type) {
	case *bool:
		if v, ok := value.(bool); ok {
			return strconv.FormatBool(v), nil
		}
		return "", fmt.Errorf("write true or false without quotes")
	case *cli.StringSlice:
		return configList(row, value)
	case number:
		if v, ok := value.(int64); ok {
			return strconv.FormatInt(v, 10), nil
		}
		return "", to.Set("")
	case size:
		if v, ok := value.(int64); ok {
			return strconv.FormatInt(v, 10), nil
		}
	}
	if v, ok := value.(string); ok && v != "" {
		return v, nil
	}
	return "", fmt.Errorf("write %s = %q", row.name, exampleOf(row))
}

// exampleOf is a value that a setting may have.
func exampleOf(row *setting) string {
	switch to := row.to.(type) {
	case duration:
		return formatDuration(max(to.min, min(250*time.Millisecond, to.max)))
	case choice:
		return to.from[0]
	case cli.Generic:
		if preset := to.String(); preset != "" {
			return preset
		}
	}
	return row.value
}

// configList takes one string or an array of them.
func configList(row *setting, value any) (string, error) {
	var items []string
	switch value := value.(type) {
	case string:
		items = []string{value}
	case []any:
		for _, v := range value {
			item, ok := v.(string)
			if !ok {
				items = nil
				break
			}
			items = append(items, item)
		}
	}
	text := strings.Join(items, ",")
	if text == "" {
		return "", fmt.Errorf("write %s = [%q]", row.name, row.value)
	}
	return text, nil
}
