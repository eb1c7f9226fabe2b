/* Asks libmemcached on which server of each pool each key is.
 *
 *   cc -o libmemcached libmemcached.c -lmemcached
 *   ./libmemcached weighted keys.hex pools.txt    (MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED)
 *   ./libmemcached plain keys.hex pools.txt       (MEMCACHED_BEHAVIOR_KETAMA alone)
 *
 * Nothing is connected to. For each pool the output has a line that begins with
 * "pool" and a line with one character a key, the index of the key's server
 * in 0-9A-Za-z.
 */
#include <libmemcached/memcached.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_KEYS 8192
#define MOST_BYTES 250

static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
static char keys[MOST_KEYS][MOST_BYTES];
static size_t lengths[MOST_KEYS];
static size_t count;

static void die(const char *what, const char *value)
{
  fprintf(stderr, "libmemcached.c: %s: %s\n", what, value);
  exit(1);
}

static void read_keys(const char *name)
{
  char line[2 * MOST_BYTES + 2];
  FILE *f = fopen(name, "r");
  if (!f)
    die("cannot open", name);
  while (fgets(line, sizeof line, f)) {
    size_t n = strcspn(line, "\n") / 2;
    if (count == MOST_KEYS)
      die("too many keys", name);
    for (size_t i = 0; i < n; i++) {
      unsigned byte;
      if (sscanf(line + 2 * i, "%2x", &byte) != 1)
        die("not hexadecimal", line);
      keys[count][i] = (char) byte;
    }
    lengths[count++] = n;
  }
  fclose(f);
}

static void set(memcached_st *m, memcached_behavior_t behavior)
{
  if (memcached_behavior_set(m, behavior, 1) != MEMCACHED_SUCCESS)
    die("behavior refused", memcached_last_error_message(m));
}

static void add(memcached_st *m, char *word)
{
  char *port = strchr(word, '|');
  char *weight = port ? strchr(port + 1, '|') : NULL;
  memcached_return_t rc;
  if (!weight)
    die("not host|port|weight", word);
  *port++ = *weight++ = '\0';
  if (*word == '/')
    rc = memcached_server_add_unix_socket_with_weight(m, word, (uint32_t) strtoul(weight, NULL, 10));
  else
    rc = memcached_server_add_with_weight(m, word, (in_port_t) atoi(port), (uint32_t) strtoul(weight, NULL, 10));
  if (rc != MEMCACHED_SUCCESS)
    die("server refused", word);
}

int main(int argc, char **argv)
{
  char line[8192];
  FILE *f;
  if (argc != 4)
    die("usage", "libmemcached weighted|plain keys.hex pools.txt");
  read_keys(argv[2]);
  f = fopen(argv[3], "r");
  if (!f)
    die("cannot open", argv[3]);
  while (fgets(line, sizeof line, f)) {
    memcached_st *m;
    line[strcspn(line, "\n")] = '\0';
    if (line[0] == '#')
      continue;
    printf("pool %s\n", line);
    m = memcached_create(NULL);
    set(m, strcmp(argv[1], "plain") ? MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED : MEMCACHED_BEHAVIOR_KETAMA);
    for (char *word = strtok(line, " "); word; word = strtok(NULL, " "))
      add(m, word);
    for (size_t i = 0; i < count; i++)
      putchar(digits[memcached_generate_hash(m, keys[i], lengths[i])]);
    putchar('\n');
    memcached_free(m);
  }
  return 0;
}
