// Package launch holds the black-box tests of how magent is started, asked
// again, signalled and ended: the promises that scripts written for the C
// program rely on. They run as root, because they change users and network
// namespaces.
package launch
