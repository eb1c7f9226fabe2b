# `make` lists what there is to do.

PREFIX  ?= /usr/local
DESTDIR ?=
BINDIR   = $(DESTDIR)$(PREFIX)/bin
MANDIR   = $(DESTDIR)$(PREFIX)/share/man/man1
UNITDIR  = $(DESTDIR)$(PREFIX)/lib/systemd/system
ETCDIR   = $(DESTDIR)/etc

# The version of the next release, as `magent --version` and memcached's
# `version` command answer it.
VERSION := 1.0.0
LDFLAGS := -s -w -X main.version=$(VERSION)

# Go refuses to look into a repository that belongs to somebody else; what it
# would find there is not needed.
export GOFLAGS := $(GOFLAGS) -buildvcs=false

# Programs that the checks and the tests call, and the packages they are in.
# The race detector needs a C compiler.
COMPILER   := gcc=gcc /usr/include/stdio.h=libc6-dev
TEST_NEEDS := $(COMPILER) memcached=memcached ip=iproute2 ps=procps setpriv=util-linux systemd-analyze=systemd keepalived=keepalived

# Clients of memcached, and what runs them.
CLIENTS := memccapable=libmemcached-tools \
  /usr/lib/python3/dist-packages/pylibmc=python3-pylibmc \
  /usr/lib/python3/dist-packages/pymemcache=python3-pymemcache \
  /usr/lib/python3/dist-packages/memcache.py=python3-memcache \
  php=php-cli /var/lib/dpkg/info/php-memcached.list=php-memcached \
  ruby=ruby /var/lib/dpkg/info/ruby-dalli.list=ruby-dalli \
  /usr/share/perl5/Cache/Memcached.pm=libcache-memcached-perl \
  /var/lib/dpkg/info/libcache-memcached-fast-perl.list=libcache-memcached-fast-perl \
  javac=default-jdk-headless /usr/share/java/spymemcached.jar=libspymemcached-java \
  node=nodejs npm=npm

# Every test runs over the system's memcached; the tests that depend most on
# what memcached does run over a newer one as well.
MODERN       := $(CURDIR)/.tools/memcached-1.6.38/memcached
SERVER_TESTS := ./backend ./proxy/protocol ./integration

.DEFAULT_GOAL := help
.PHONY: help build run test test-modern checker broken memcached-1.6.38 clients check lint fuzz bench bench-recovery bench-protocols bench-failover install install-systemd uninstall clean go

help: ## show this list
	@echo 'magent, a write-mirroring cache proxy for memcached'
	@echo
	@awk -F ':.*## ' '/^[a-z][a-z0-9.-]*:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

build: go ## build ./magent
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o magent ./cmd/magent

run: build ## try it: two memcacheds and magent on 127.0.0.1:12000, until Ctrl-C
	@.ci/packages memcached=memcached nc=netcat-openbsd
	@deploy/demo

test: go clients ## run every test (installs what the tests need)
	@.ci/packages $(TEST_NEEDS)
	@.ci/test
	@$(MAKE) --no-print-directory memcached-1.6.38
	@MAGENT_MEMCACHED='$(MODERN)' .ci/test $(SERVER_TESTS)

test-modern: go clients memcached-1.6.38 ## run every test over the newer memcached only
	@.ci/packages $(TEST_NEEDS)
	@MAGENT_MEMCACHED='$(MODERN)' .ci/test

memcached-1.6.38: ## unpack memcached of Debian 13 in .tools
	@.ci/memcached-trixie .tools/memcached-1.6.38

clients: ## install the clients that the tests run through magent
	@.ci/packages $(CLIENTS)
	@.ci/dalli-trixie .tools/dalli-3.2.8
	@.ci/npm .tools/npm

checker: go ## clients and faults against a model of one cache, for MAGENT_CHECK (30m), in MAGENT_DIALECTS (text,meta,binary)
	@.ci/packages $(TEST_NEEDS)
	MAGENT_CHECK=$${MAGENT_CHECK:-30m} CGO_ENABLED=1 go test -count 1 -timeout 0 -v -run TestNoPromiseIsBroken ./integration/checker

broken: go ## break promises on purpose, one at a time: the checker has to find each
	@.ci/packages $(TEST_NEEDS)
	@.ci/broken

check: go ## what CI checks besides the tests
	@.ci/packages $(COMPILER)
	@.ci/check

lint: go ## run the linters only
	@.ci/lint

fuzz: go ## run every fuzz target for a minute
	@.ci/fuzz 60

bench: build ## compare with nutcracker and plain memcached; writes docs/bench/comparison.md
	@.ci/packages memcached=memcached nutcracker=nutcracker taskset=util-linux
	go run ./integration/bench --magent ./magent --out docs/bench/comparison.md

bench-recovery: build ## measure how a server that lost 1,000,000 keys is filled; writes docs/bench/recovery.md
	@.ci/packages memcached=memcached taskset=util-linux
	go run ./integration/bench --magent ./magent --targets magent --only p1,lone --recovery 1000000 --out docs/bench/recovery.md

bench-protocols: build memcached-1.6.38 ## compare text, meta and binary, through magent and on memcached; writes docs/bench/protocols*.md
	@.ci/packages memcached=memcached taskset=util-linux
	go run ./integration/bench --magent ./magent --targets magent,direct --protocols --rounds 5 --seconds 2 --warmup 0.5 --out docs/bench/protocols.md
	go run ./integration/bench --magent ./magent --targets magent --protocols --rounds 3 --seconds 2 --warmup 0.5 --max-reqs-per-event 200 --out docs/bench/protocols-R200.md
	go run ./integration/bench --magent ./magent --targets magent --protocols --rounds 3 --seconds 2 --warmup 0.5 --memcached .tools/memcached-1.6.38/memcached --out docs/bench/protocols-1.6.38.md

bench-failover: go ## measure how long clients are without their key under keepalived; writes docs/bench/failover.md
	@.ci/packages $(TEST_NEEDS)
	MAGENT_FAILOVER_REPORT='$(CURDIR)/docs/bench/failover.md' go test -count 1 -timeout 0 -run '^$$' -bench Failover -benchtime 1x ./integration/keepalived

install: ## install the program and its manual page (PREFIX=/usr/local, DESTDIR=)
	@test -x magent || $(MAKE) build
	install -d '$(BINDIR)' '$(MANDIR)'
	install -m 755 magent '$(BINDIR)/magent'
	install -m 644 docs/magent.1 '$(MANDIR)/magent.1'

# The settings belong to whoever has edited them.
install-systemd: ## install the service for systemd too, and /etc/magent.toml if there is none
	install -d '$(UNITDIR)' '$(ETCDIR)'
	sed 's|/usr/local/bin|$(PREFIX)/bin|' deploy/systemd/magent.service >'$(UNITDIR)/magent.service'
	chmod 644 '$(UNITDIR)/magent.service'
	test -e '$(ETCDIR)/magent.toml' || install -m 644 deploy/systemd/magent.toml '$(ETCDIR)/magent.toml'

uninstall: ## remove what was installed, but for /etc/magent.toml
	rm -f '$(BINDIR)/magent' '$(MANDIR)/magent.1' '$(UNITDIR)/magent.service'

clean: ## remove what was built here
	rm -rf magent bin .tools

go:
	@command -v go >/dev/null || { echo 'Go is not installed: see https://go.dev/doc/install'; exit 1; }
