package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"
)

// parse reads the arguments (without the program's name), the environment and
// the config file, each of which goes before the next, into settings. Relative
// paths are taken from directory. All errors are usage errors of one line.
func parse(arguments []string, directory string) (*settings, request, error) {
	s := defaultSettings()
	rows := table(s)
	r, err := normalize(rows, arguments)
	if err != nil || r.help || r.version {
		return s, r, err
	}
	app := &cli.App{
		Name:            "magent",
		Usage:           "a write-mirroring proxy in front of memcached",
		Flags:           cliFlags(rows),
		HideHelp:        true,
		HideHelpCommand: true,
		HideVersion:     true,
		Writer:          io.Discard,
		ErrWriter:       io.Discard,
		ExitErrHandler:  func(*cli.Context, error) {},
		OnUsageError:    func(_ *cli.Context, err error, _ bool) error { return plainError(err) },
		Action: func(c *cli.Context) error {
			if s.configFile != "" {
				if !filepath.IsAbs(s.configFile) {
					s.configFile = filepath.Join(directory, s.configFile)
				}
				if err := applyConfigFile(c, rows, s.configFile); err != nil {
					return err
				}
			}
			s.makeAbsolute(directory)
			if r.subcommand != nil {
				return nil // it starts nothing, so it needs no servers
			}
			return s.finish(c.IsSet("distribution"))
		},
	}
	err = app.Run(append([]string{"magent"}, r.args...))
	return s, r, err
}

// plainError puts the command line library's words into ours.
func plainError(err error) error {
	text := oneLine(err).Error()
	text = strings.Replace(text, " for flag -", " for -", 1)
	text = strings.Replace(text, " for -", " for --", 1)
	if strings.Contains(text, "boolean value") || strings.Contains(text, "as bool value") {
		text, _, _ = strings.Cut(text, ": ")
		text = fmt.Sprintf("%s: give true or false", text)
	}
	return errors.New(text)
}

// oneLine joins the lines of an error's text.
func oneLine(err error) error {
	text := strings.Join(strings.Fields(err.Error()), " ")
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}
