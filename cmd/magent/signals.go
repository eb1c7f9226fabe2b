package main

import (
	"os"
	"strings"
	"syscall"
)

// run serves until a signal ends it.
//
//	TERM, INT  stop accepting, finish what is in flight, end; again: end at once
//	HUP        read the config file and open the log file anew
//	USR2       go on as the program that the file now holds
//
// The service manager is told of each.
func (srv *server) run() {
	serving := "serving on " + strings.Join(srv.addresses(), ", ")
	srv.manager.ready(serving)
	defer srv.manager.watch(srv.proxy.Turn)()
	for received := range srv.signals {
		srv.logSignal(received)
		switch received {
		case syscall.SIGHUP:
			srv.manager.reloading("reading the settings anew")
			status := serving
			if err := srv.reload(); err != nil {
				srv.log.Error().Err(err).Msg("settings stay the same")
				status += "; the settings were not read anew, see the log"
			}
			srv.manager.ready(status)
		case syscall.SIGUSR2:
			// The next program says when it is ready.
			srv.manager.reloading("changing for the program that the file now holds")
			if err := srv.upgrade(); err != nil {
				srv.log.Error().Err(err).Msg("upgrade failed: this program goes on")
				srv.manager.ready(serving + "; the upgrade failed, see the log")
			}
		default:
			srv.manager.stopping("finishing what is in flight")
			srv.stop()
			return
		}
	}
}

func (srv *server) logSignal(received os.Signal) {
	srv.log.Info().Str("signal", signalName(received)).Msg("signal")
}

// signalName is TERM, HUP and so on.
func signalName(s os.Signal) string {
	switch s {
	case syscall.SIGTERM:
		return "TERM"
	case syscall.SIGINT:
		return "INT"
	case syscall.SIGHUP:
		return "HUP"
	case syscall.SIGUSR2:
		return "USR2"
	}
	return s.String()
}

// stop ends the service. The locks go first, so that another magent can start
// while this one finishes what is in flight. A second TERM or INT ends the
// wait for that.
func (srv *server) stop() {
	srv.removeSocket()
	srv.lock.close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.proxy.Shutdown()
	}()
	for {
		select {
		case <-done:
			srv.removeFiles()
			srv.log.Info().Msg("stopped")
			return
		case received := <-srv.signals:
			srv.logSignal(received)
			if received == syscall.SIGTERM || received == syscall.SIGINT {
				srv.removeFiles()
				srv.log.Warn().Msg("stopped at once: requests in flight were not finished")
				return
			}
		}
	}
}

// reload reads the settings anew and applies those that can change while the
// program runs. With a mistake in them, nothing changes.
func (srv *server) reload() error {
	if srv.logFile != nil {
		if err := srv.logFile.reopen(); err != nil {
			srv.log.Error().Err(err).Msg("the log file stays the same")
		}
	}
	next, _, err := parse(srv.arguments, srv.directory)
	if err != nil {
		return err
	}
	warning, err := fitFileLimit(&next.proxy)
	if err != nil {
		return err
	}
	srv.warn(warning)
	needRestart, err := srv.proxy.Reload(next.proxy)
	if err != nil {
		return err
	}
	setLogLevel(next.logLevel)
	needRestart = append(needRestart, srv.settings.restartNeeded(next)...)
	if len(needRestart) > 0 {
		srv.log.Warn().Strs("settings", needRestart).Msg("these settings change with a restart only")
	}
	srv.log.Info().Str("config", next.configFile).Msg("settings read")
	return nil
}

// pendingStop takes signals that wait and says whether one asks to stop; that
// one is put back.
func (srv *server) pendingStop() bool {
	for {
		select {
		case received := <-srv.signals:
			if received == syscall.SIGTERM || received == syscall.SIGINT {
				srv.signals <- received
				return true
			}
			srv.logSignal(received)
		default:
			return false
		}
	}
}
