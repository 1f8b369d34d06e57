/* Loaded into the program under test (LD_PRELOAD): counts the calls that change files at paths which contain one of the words in
 * KILLER_UNDER (separated by ':'), and kills the process at call number KILLER_AT: before the call, or, with KILLER_HALF set, after
 * half of the bytes of a write. At a regular end the number of calls is written to the file KILLER_COUNT. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int meant(const char *path) {
    const char *under = getenv("KILLER_UNDER");
    char words[4096], *rest = words, *word;
    if (!under || !path) return 0;
    snprintf(words, sizeof words, "%s", under);
    while ((word = strsep(&rest, ":")))
        if (*word && strstr(path, word)) return 1;
    return 0;
}

static int meant_fd(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return meant(path);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Counts a call; tells whether it is the last. */
static int count(void) {
    const char *at = getenv("KILLER_AT");
    return atomic_fetch_add(&calls, 1) + 1 == (at ? atol(at) : -1);
}

static void step(int concerns) {
    if (concerns && count()) die();
}

static int changes(int flags) { return flags & (O_CREAT | O_TRUNC); }

int open64(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = va_arg(list, mode_t);
    va_end(list);
    step(changes(flags) && meant(path));
    return REAL(open64)(path, flags, mode);
}

int open(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = va_arg(list, mode_t);
    va_end(list);
    step(changes(flags) && meant(path));
    return REAL(open)(path, flags, mode);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    if (meant_fd(fd) && count()) {
        if (getenv("KILLER_HALF")) REAL(write)(fd, bytes, length / 2);
        die();
    }
    return REAL(write)(fd, bytes, length);
}

ssize_t writev(int fd, const struct iovec *parts, int number) {
    step(meant_fd(fd));
    return REAL(writev)(fd, parts, number);
}

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t length, unsigned flags) {
    step(meant_fd(out));
    return REAL(copy_file_range)(in, from, out, to, length, flags);
}

int rename(const char *old, const char *new) {
    step(meant(old) || meant(new));
    return REAL(rename)(old, new);
}

int unlink(const char *path) {
    step(meant(path));
    return REAL(unlink)(path);
}

int mkdir(const char *path, mode_t mode) {
    step(meant(path));
    return REAL(mkdir)(path, mode);
}

int ftruncate64(int fd, off64_t length) {
    step(meant_fd(fd));
    return REAL(ftruncate64)(fd, length);
}

__attribute__((destructor)) static void tell(void) {
    const char *path = getenv("KILLER_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file) {
        fprintf(file, "%ld\n", atomic_load(&calls));
        fclose(file);
    }
}
