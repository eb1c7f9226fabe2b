package main

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"syscall"
)

// identity is the user and group to run as; -1 leaves one as it is.
type identity struct {
	uid, gid int
	groups   []int // supplementary groups; nil leaves them
}

// currentIdentity changes nothing.
func currentIdentity() identity { return identity{uid: -1, gid: -1} }

// changes says whether anything is to be given up.
func (id identity) changes() bool { return id.uid >= 0 || id.gid >= 0 }

// resolveUser finds out what -u and -g ask for. Either may be a name or a
// number, or empty. Asking for what the process is already is no change; asking
// for root without being root is a warning, because scripts written for the C
// program, which read numbers only, do so thoughtlessly.
func resolveUser(userText, groupText string, euid, egid int) (id identity, warning string, err error) {
	id = currentIdentity()
	if userText != "" {
		u, err := lookUpUser(userText)
		if err != nil {
			return id, "", err
		}
		switch {
		case u.uid == euid:
		case u.uid == 0:
			warning = "cannot become root (-u " + userText + ") without being root: going on as the present user"
		default:
			id = u
		}
	}
	if groupText != "" {
		gid, err := lookUpGroup(groupText)
		if err != nil {
			return id, "", err
		}
		switch {
		case id.uid >= 0:
			id.gid, id.groups = gid, []int{gid}
		case gid == egid:
		case gid == 0 && euid != 0:
			warning = "cannot become group root (-g " + groupText + ") without being root: going on as the present group"
		default:
			id.gid, id.groups = gid, []int{gid}
		}
	}
	return id, warning, nil
}

func lookUpUser(text string) (identity, error) {
	u, err := user.Lookup(text)
	if err != nil {
		number, numberErr := strconv.ParseUint(text, 10, 31)
		if numberErr != nil {
			return identity{}, fmt.Errorf("there is no user %q: give -u the name or number of a user of this machine", text)
		}
		u, err = user.LookupId(text)
		if err != nil {
			// A number needs no entry; its group has the same number unless -g
			// says otherwise.
			n := int(number)
			return identity{uid: n, gid: n, groups: []int{n}}, nil
		}
	}
	id := identity{}
	if id.uid, err = strconv.Atoi(u.Uid); err == nil {
		id.gid, err = strconv.Atoi(u.Gid)
	}
	if err != nil {
		return identity{}, fmt.Errorf("user %q: %w", text, err)
	}
	id.groups = []int{id.gid}
	ids, err := u.GroupIds()
	if err != nil {
		return id, nil // the primary group alone is the safe choice
	}
	for _, text := range ids {
		if gid, err := strconv.Atoi(text); err == nil && gid != id.gid {
			id.groups = append(id.groups, gid)
		}
	}
	return id, nil
}

func lookUpGroup(text string) (int, error) {
	if g, err := user.LookupGroup(text); err == nil {
		return strconv.Atoi(g.Gid)
	}
	number, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("there is no group %q: give -g the name or number of a group of this machine", text)
	}
	return int(number), nil
}

// assume gives up everything but the identity, for all threads.
func (id identity) assume() error {
	if id.groups != nil {
		// Without the right to set them, a change of user fails below with an
		// error that says more, and a change of group alone may be allowed.
		err := syscall.Setgroups(id.groups)
		if err != nil && (!errors.Is(err, syscall.EPERM) || syscall.Geteuid() == 0) {
			return fmt.Errorf("cannot set the supplementary groups to %v: %w", id.groups, err)
		}
	}
	if id.gid >= 0 {
		if err := syscall.Setgid(id.gid); err != nil {
			return fmt.Errorf("cannot become group %d: %w: start magent as root, or leave out -u and -g", id.gid, err)
		}
	}
	if id.uid >= 0 {
		if err := syscall.Setuid(id.uid); err != nil {
			return fmt.Errorf("cannot become user %d: %w: start magent as root, or leave out -u", id.uid, err)
		}
	}
	return nil
}
