package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"magent/integration/harness"
)

const containerDir = top + "/deploy/container"

// image is what the Dockerfile makes, without an engine: the commands of its
// first stage run in a directory that holds what it copies there, and root gets
// what the last stage copies, which starts from nothing.
type image struct {
	*testing.T
	context, build, root string
	ignored              []string
	from                 []string // of each stage
	workDir              string   // of the first
	env                  []string // of the last, as the other values
	user                 string
	expose               string
	health, entrypoint   []string
}

func buildImage(t *testing.T) *image {
	t.Helper()
	dir, err := os.MkdirTemp("", "magent-image-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	i := &image{T: t, context: top, build: filepath.Join(dir, "build"), root: filepath.Join(dir, "root")}
	must(t, os.Mkdir(i.build, 0o755))
	must(t, os.Mkdir(i.root, 0o755))
	ignored, err := os.ReadFile(filepath.Join(containerDir, "Dockerfile.dockerignore"))
	must(t, err)
	for line := range strings.Lines(string(ignored)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			i.ignored = append(i.ignored, line)
		}
	}
	text, err := os.ReadFile(filepath.Join(containerDir, "Dockerfile"))
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			word, rest, _ := strings.Cut(line, " ")
			i.instruction(word, rest)
		}
	}
	if len(i.from) != 2 || i.from[0] == "scratch" || i.from[1] != "scratch" {
		t.Fatalf("the stages are from %q", i.from)
	}
	return i
}

func (i *image) instruction(word, rest string) {
	i.Helper()
	building := len(i.from) == 1
	switch {
	case word == "FROM":
		i.from = append(i.from, strings.Fields(rest)[0])
	case building && word == "WORKDIR":
		i.workDir = rest
		must(i, os.MkdirAll(filepath.Join(i.build, rest), 0o755))
	case building && word == "COPY":
		words := strings.Fields(rest)
		for _, from := range words[:len(words)-1] {
			i.copyContext(from, filepath.Join(i.build, i.workDir, words[len(words)-1]))
		}
	case building && word == "RUN":
		command := exec.Command("sh", "-ec", rest)
		command.Dir = filepath.Join(i.build, i.workDir)
		if out, err := command.CombinedOutput(); err != nil {
			i.Fatalf("RUN %s: %v\n%s", rest, err, out)
		}
	case word == "COPY":
		words := strings.Fields(strings.TrimPrefix(rest, "--from=build "))
		to := filepath.Join(i.root, words[1])
		must(i, os.MkdirAll(filepath.Dir(to), 0o755))
		copyFile(i.T, filepath.Join(i.build, words[0]), to)
	case word == "ENV":
		i.env = append(i.env, rest)
	case word == "USER":
		i.user = rest
	case word == "EXPOSE":
		i.expose = rest
	case word == "HEALTHCHECK":
		_, command, _ := strings.Cut(rest, " CMD ")
		must(i, json.Unmarshal([]byte(command), &i.health))
	case word == "ENTRYPOINT":
		must(i, json.Unmarshal([]byte(rest), &i.entrypoint))
	default:
		i.Fatalf("the test does not know what %s means in this stage", word)
	}
}

// copyContext copies a file, or everything, from the repository.
func (i *image) copyContext(from, to string) {
	i.Helper()
	must(i, filepath.WalkDir(filepath.Join(i.context, from), func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(i.context, name)
		if err != nil {
			return err
		}
		switch {
		case slices.Contains(i.ignored, below) && entry.IsDir():
			return fs.SkipDir
		case slices.Contains(i.ignored, below):
			return nil
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, below), 0o755)
		}
		copyFile(i.T, name, filepath.Join(to, below))
		return nil
	}))
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	info, err := os.Stat(from)
	must(t, err)
	content, err := os.ReadFile(from)
	must(t, err)
	must(t, os.WriteFile(to, content, info.Mode().Perm()))
}

// inside is the command line of a program in a container of this image, with
// namespaces of its own for processes and mounts. Of what an engine adds to an
// image it has /proc, /dev/null and /etc/hosts, and nothing else.
func (i *image) inside(argv ...string) []string {
	i.Helper()
	unshare, err := exec.LookPath("unshare")
	must(i, err)
	user, group, _ := strings.Cut(i.user, ":")
	line := append([]string{"env", "-i"}, i.env...)
	line = append(line, unshare, "--pid", "--mount", "--fork", "--kill-child", "--root", i.root, "--mount-proc",
		"--setgid", group, "--setuid", user)
	return append(line, argv...)
}

// composeCommand returns the command of a service in compose.yaml.
func composeCommand(t *testing.T, service string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(containerDir, "compose.yaml"))
	must(t, err)
	found := regexp.MustCompile(`(?m)^  ` + service + `:\n(?:    .*\n)*?    command: (\[.*\])\n`).FindSubmatch(text)
	if found == nil {
		t.Fatalf("compose.yaml has no command for %s:\n%s", service, text)
	}
	var command []string
	must(t, json.Unmarshal(found[1], &command))
	return command
}

// children returns the processes that a process has started and not waited for.
func children(t *testing.T, pid int) []int {
	t.Helper()
	var pids []int
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	must(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // the thread has ended
		}
		must(t, err)
		for word := range strings.FieldsSeq(string(text)) {
			child, err := strconv.Atoi(word)
			must(t, err)
			pids = append(pids, child)
		}
	}
	return pids
}

// magent is the first process of its container. The kernel ignores every signal
// for that one which it does not ask for, and nobody else waits for children.
func TestContainer(t *testing.T) {
	i := buildImage(t)
	s := newNamespaceSite(t)
	s.host, s.port = "127.0.0.1", 12000
	// The harness starts programs from another thread.
	here := []string{"nsenter", fmt.Sprintf("--net=/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())}

	for _, name := range []string{"proc", "dev", "etc"} {
		must(t, os.Mkdir(filepath.Join(i.root, name), 0o755))
	}
	null := filepath.Join(i.root, "dev/null")
	must(t, unix.Mknod(null, unix.S_IFCHR, int(unix.Mkdev(1, 3))))
	must(t, os.Chmod(null, 0o666))
	hosts := ""
	for n, name := range []string{"primary", "backup"} {
		address := fmt.Sprintf("127.0.0.%d", n+2)
		hosts += address + " " + name + "\n"
		command := composeCommand(t, name)
		if command[0] != "memcached" {
			t.Fatalf("%s runs %q", name, command)
		}
		argv := append(here, harness.MemcachedBinary(), "-u", "root", "-l", address)
		harness.StartProcess(t, name, nil, append(argv, command[1:]...)...)
		harness.Eventually(t, eventTime, name+" serves", func() bool { return roundTrip("tcp", address+":11211") == nil })
	}
	must(t, os.WriteFile(filepath.Join(i.root, "etc/hosts"), []byte(hosts), 0o600))
	must(t, os.Chmod(filepath.Join(i.root, "etc/hosts"), 0o644))

	argv := append(slices.Clone(i.entrypoint), composeCommand(t, "magent")...)
	p := harness.StartProcess(t, "magent", nil, append(here, i.inside(argv...)...)...)
	serving := func(times int) {
		t.Helper()
		harness.Eventually(t, eventTime, "magent serves", func() bool { return strings.Count(p.Output(), `"message":"serving"`) == times })
	}
	serving(1)
	if i.expose != strconv.Itoa(s.port) {
		t.Errorf("the image exposes port %s, magent listens on %d", i.expose, s.port)
	}
	s.serves(s.addr())
	for n := range 2 {
		addr := fmt.Sprintf("127.0.0.%d:11211", n+2)
		c, err := dial("tcp", addr)
		must(t, err)
		harness.Eventually(t, eventTime, "the value is on "+addr, func() bool {
			_, found, err := c.Value("launch")
			return err == nil && found
		})
		c.Close()
	}

	pids := children(t, p.PID())
	if len(pids) != 1 || comm(pids[0]) != "magent" {
		t.Fatalf("the processes in the container are %v", pids)
	}
	pid := pids[0]
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	if !regexp.MustCompile(`(?m)^NSpid:\t\d+\t1$`).Match(status) {
		t.Errorf("magent is not the first process of its container:\n%s", status)
	}
	if got := ids(t, pid); !strings.HasPrefix(got, "65534 65534 65534 65534, 65534 65534 65534 65534, ") {
		t.Errorf("it runs as %s", got)
	}
	health := func() result { return s.runAs(nil, i.inside(i.health...)...) }
	if r := health(); r.code != 0 {
		t.Errorf("HEALTHCHECK of a container that serves: exit code %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
	}

	// The programs that an upgrade tries out are waited for.
	s.signal(pid, syscall.SIGUSR2)
	serving(2)
	s.serves(s.addr())
	if left := children(t, pid); len(left) > 0 {
		t.Errorf("the processes %v are left of an upgrade", left)
	}
	s.signal(pid, syscall.SIGHUP)
	harness.Eventually(t, eventTime, "the settings are read", func() bool { return strings.Contains(p.Output(), "settings read") })
	s.signal(pid, syscall.SIGTERM)
	if state, ended := p.WaitEnd(eventTime); !ended || state.ExitCode() != 0 {
		t.Errorf("at TERM: %v, want exit code 0", state)
	}
	if r := health(); r.code != 1 {
		t.Errorf("HEALTHCHECK of a container that does not serve: exit code %d", r.code)
	}
}

// Nothing but the program and its licence is in the image.
func TestContainerHoldsOneProgram(t *testing.T) {
	i := buildImage(t)
	var files []string
	must(t, filepath.WalkDir(i.root, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, strings.TrimPrefix(name, i.root))
		}
		return err
	}))
	if want := []string{"/usr/bin/magent", "/usr/share/doc/magent/LICENSE"}; !slices.Equal(files, want) {
		t.Errorf("the image holds %q, want %q", files, want)
	}
	for _, command := range [][]string{i.entrypoint, i.health} {
		if !slices.Contains(i.env, "PATH="+path.Dir(files[0])) || command[0] != path.Base(files[0]) {
			t.Errorf("with %q the command %q does not find %s", i.env, command, files[0])
		}
	}
}
