// Command magent is a write-mirroring proxy in front of memcached servers, and
// a drop-in for the C program of the same name.
//
// main parses, builds, starts and stops; all that concerns requests is in
// package proxy. The files:
//
//	main.go      the order in which things happen
//	parse.go     arguments, environment and config file into settings
//	flags.go     the table of all settings: flag, letter, variable, file key
//	values.go    the kinds of values that settings take
//	getopt.go    the C program's spellings of the flags
//	settings.go  what the table fills in; checksettings.go is --check
//	config.go    the config file
//	help.go      the help page and the short usage
//	address.go   the addresses to listen on
//	admin.go     the subcommands that ask a running magent
//	ask.go       how they reach it; askproblem.go says what is wrong
//	check.go     whether every key can be served
//	report.go    what is known of a magent and its servers
//	status.go    the same for people, and as JSON
//	explain.go   the table of where a key lives
//	daemon.go    going to the background
//	server.go    the serving process: from the start to the end
//	listeners.go its sockets and the files they leave
//	signals.go   what the serving process does on a signal
//	manager.go   telling a service manager, such as systemd
//	upgrade.go   changing the running program for a newer one
//	lock.go      one magent for each address
//	occupant.go  asking the magent that has the lock
//	holder.go    which program holds a port
//	user.go      giving up privileges
//	limits.go    the limit on open files
//	pidfile.go   the pid file
//	logging.go   the log
//
// # One process for each address
//
// The serving process binds an abstract Unix socket for each address that it
// listens on, named for the address, and answers whoever connects to it with
// one line. A launch that finds the name taken asks, and has nothing to do when
// it is answered. Names of abstract sockets live in the network namespace, as
// ports do, and the kernel takes them back when the process ends, however it
// ends.
//
// Who has connected may then ask questions, a line each: those of the
// subcommands. They get there the magent of this machine also when its address
// is on another one, where a connection to the address would lead. On the lock of
// a Unix socket there are no answers, because the file's permissions say who may
// ask.
//
// # The background
//
// The launching process starts its own file again, in a session of its own,
// and waits for it: standard error of the new process is a pipe, on which it
// writes what is wrong, or one zero byte as soon as it serves.
package main
