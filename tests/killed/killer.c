/* Counts the calls by which a program changes files, and at one of them lets happen what the environment says: death, an error,
 * a command. To be preloaded.
 *
 * KILLER_UNDER  where files count: beginnings of absolute paths, with ':' in between
 * KILLER_LOG    each call that counts is noted here: number, name, path
 * KILLER_AT     the number of the call, from 1; 0 is the first write into a signature file that grows
 * KILLER_DEED   what happens there:
 *                 kill   the program dies, before the call
 *                 half   the program dies when half of the bytes are written; before the call if it is none that writes
 *                 E...   this call and all that follow fail: ENOSPC, EIO, EROFS
 *                 other  a shell command is run, then the call is made
 * KILLER_EIO    PATH@OFFSET: this file cannot be read from there on; with PATH/* none below PATH can
 *
 * One call that counts is made at a time, so death has no other call half way. Nothing is synced to disk: nobody pulls the plug.
 *
 * Writes into a signature file that grows have no number. It is flushed whenever a volume is stored, and how much it has then depends on how
 * far another thread has come: their number differs from run to run, that of all other calls does not.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long count, unnumbered;

#define REAL(type, name, ...)                                    \
    static type (*real)(__VA_ARGS__);                            \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static int is_under(const char *path) {
    const char *under = getenv("KILLER_UNDER");
    while (under && *under) {
        size_t length = strcspn(under, ":");
        if (length && !strncmp(path, under, length)) return 1;
        under += length + (under[length] == ':');
    }
    return 0;
}

static const char *path_of(int fd, char *buffer) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, buffer, PATH_MAX - 1);
    buffer[length < 0 ? 0 : length] = 0;
    return buffer;
}

static const char *path_at(int directory, const char *name, char *buffer) {
    if (name[0] == '/' || directory == AT_FDCWD) return name;
    path_of(directory, buffer);
    size_t length = strlen(buffer);
    snprintf(buffer + length, PATH_MAX - length, "/%s", name);
    return buffer;
}

static void note(const char *call, const char *path) {
    const char *log = getenv("KILLER_LOG");
    if (!log) return;
    char line[PATH_MAX + 100];
    int length = snprintf(line, sizeof line, "%ld %s %s\n", count, call, path);
    int fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    syscall(SYS_write, fd, line, length);
    syscall(SYS_close, fd);
}

static int ends_with(const char *path, const char *end) {
    size_t length = strlen(path), tail = strlen(end);
    return length >= tail && !strcmp(path + length - tail, end);
}

static void die(void) {
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    for (;;) pause();
}

enum verdict { PASS, HALF, FAIL };

/* Counts a call and says what becomes of it; holds the lock until `done`. */
static enum verdict begin(const char *call, const char *path) {
    const char *at = getenv("KILLER_AT"), *deed = getenv("KILLER_DEED");
    pthread_mutex_lock(&lock);
    int is_numbered = strcmp(call, "write") || !(ends_with(path, ".sigtar.part") || ends_with(path, "/.dupfs-session.tmp"));
    if (is_numbered) {
        count++;
        note(call, path);
    } else {
        unnumbered++;
    }
    if (!at || !deed || count < atol(at)) return PASS;
    int error = !strcmp(deed, "ENOSPC") ? ENOSPC : !strcmp(deed, "EIO") ? EIO : !strcmp(deed, "EROFS") ? EROFS : 0;
    if (error) {
        errno = error;
        return FAIL;
    }
    if (is_numbered ? count != atol(at) : atol(at) || unnumbered > 1) return PASS;
    if (!strcmp(deed, "kill")) die();
    if (!strcmp(deed, "half")) return HALF;
    unsetenv("LD_PRELOAD");
    if (system(deed)) fprintf(stderr, "killer: '%s' has failed\n", deed);
    return PASS;
}

static void done(void) {
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
}

/* The way of a call that has no bytes to write. */
#define PLAIN(path, call, counts, made)                     \
    do {                                                    \
        if (!(counts) || !is_under(path)) return made;      \
        enum verdict verdict = begin(call, path);           \
        if (verdict == HALF) die();                         \
        long result = verdict == FAIL ? -1 : (long)(made);  \
        done();                                             \
        return result;                                      \
    } while (0)

/* The way of a call that writes bytes; `half` writes half of them. */
#define WRITES(call, made, half)                            \
    do {                                                    \
        char buffer[PATH_MAX];                              \
        if (!is_under(path_of(fd, buffer))) return made;    \
        enum verdict verdict = begin(call, buffer);         \
        if (verdict == HALF) {                              \
            half;                                           \
            die();                                          \
        }                                                   \
        long result = verdict == FAIL ? -1 : (long)(made);  \
        done();                                             \
        return result;                                      \
    } while (0)

#define MODE                                                \
    mode_t mode = 0;                                        \
    if (flags & (O_CREAT | O_TMPFILE)) {                    \
        va_list list;                                       \
        va_start(list, flags);                              \
        mode = va_arg(list, mode_t);                        \
        va_end(list);                                       \
    }

#define OPEN(name)                                                                     \
    int name(const char *path, int flags, ...) {                                       \
        MODE REAL(int, #name, const char *, int, ...);                                 \
        PLAIN(path, "open", flags & (O_CREAT | O_TRUNC), real(path, flags, mode));     \
    }
#define OPENAT(name)                                                                                                    \
    int name(int directory, const char *path, int flags, ...) {                                                         \
        MODE REAL(int, #name, int, const char *, int, ...);                                                             \
        char buffer[PATH_MAX];                                                                                          \
        PLAIN(path_at(directory, path, buffer), "open", flags & (O_CREAT | O_TRUNC), real(directory, path, flags, mode)); \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *bytes, size_t length) {
    REAL(ssize_t, "write", int, const void *, size_t);
    WRITES("write", real(fd, bytes, length), real(fd, bytes, length / 2));
}

ssize_t writev(int fd, const struct iovec *parts, int number) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    WRITES("write", real(fd, parts, number), syscall(SYS_write, fd, parts[0].iov_base, parts[0].iov_len / 2));
}

#define PWRITE(name)                                                                                                \
    ssize_t name(int fd, const void *bytes, size_t length, off_t offset) {                                          \
        REAL(ssize_t, #name, int, const void *, size_t, off_t);                                                     \
        WRITES("write", real(fd, bytes, length, offset), real(fd, bytes, length / 2, offset));                      \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

ssize_t copy_file_range(int in, off64_t *from, int fd, off64_t *to, size_t length, unsigned flags) {
    REAL(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned);
    WRITES("write", real(in, from, fd, to, length, flags), real(in, from, fd, to, length / 2, flags));
}

ssize_t sendfile(int fd, int in, off_t *from, size_t length) {
    REAL(ssize_t, "sendfile", int, int, off_t *, size_t);
    WRITES("write", real(fd, in, from, length), real(fd, in, from, length / 2));
}
ssize_t sendfile64(int fd, int in, off_t *from, size_t length) {
    REAL(ssize_t, "sendfile64", int, int, off_t *, size_t);
    WRITES("write", real(fd, in, from, length), real(fd, in, from, length / 2));
}

#define TRUNCATE(name)                                                           \
    int name(int fd, off_t length) {                                             \
        REAL(int, #name, int, off_t);                                            \
        char buffer[PATH_MAX];                                                   \
        PLAIN(path_of(fd, buffer), "truncate", 1, real(fd, length));             \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

#define SYNC(name)                                                               \
    int name(int fd) {                                                           \
        char buffer[PATH_MAX];                                                   \
        PLAIN(path_of(fd, buffer), "sync", 1, 0);                                \
    }
SYNC(fsync)
SYNC(fdatasync)

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    PLAIN(to, "rename", 1, real(from, to));
}

int renameat(int a, const char *from, int b, const char *to) {
    REAL(int, "renameat", int, const char *, int, const char *);
    char buffer[PATH_MAX];
    PLAIN(path_at(b, to, buffer), "rename", 1, real(a, from, b, to));
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    REAL(int, "renameat2", int, const char *, int, const char *, unsigned);
    char buffer[PATH_MAX];
    PLAIN(path_at(b, to, buffer), "rename", 1, real(a, from, b, to, flags));
}

int link(const char *from, const char *to) {
    REAL(int, "link", const char *, const char *);
    PLAIN(to, "link", 1, real(from, to));
}

int linkat(int a, const char *from, int b, const char *to, int flags) {
    REAL(int, "linkat", int, const char *, int, const char *, int);
    char buffer[PATH_MAX];
    PLAIN(path_at(b, to, buffer), "link", 1, real(a, from, b, to, flags));
}

int symlink(const char *text, const char *path) {
    REAL(int, "symlink", const char *, const char *);
    PLAIN(path, "link", 1, real(text, path));
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    PLAIN(path, "unlink", 1, real(path));
}

int unlinkat(int directory, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    char buffer[PATH_MAX];
    PLAIN(path_at(directory, path, buffer), "unlink", 1, real(directory, path, flags));
}

int rmdir(const char *path) {
    REAL(int, "rmdir", const char *);
    PLAIN(path, "rmdir", 1, real(path));
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    PLAIN(path, "mkdir", 1, real(path, mode));
}

int mkdirat(int directory, const char *path, mode_t mode) {
    REAL(int, "mkdirat", int, const char *, mode_t);
    char buffer[PATH_MAX];
    PLAIN(path_at(directory, path, buffer), "mkdir", 1, real(directory, path, mode));
}

ssize_t read(int fd, void *bytes, size_t length) {
    REAL(ssize_t, "read", int, void *, size_t);
    const char *bad = getenv("KILLER_EIO"), *at = bad ? strrchr(bad, '@') : NULL;
    char buffer[PATH_MAX];
    size_t length_of_bad = at ? at - bad : 0;
    int is_folder = length_of_bad && bad[length_of_bad - 1] == '*';
    if (at && !strncmp(path_of(fd, buffer), bad, length_of_bad - is_folder) && (is_folder || !buffer[length_of_bad])) {
        off_t left = atol(at + 1) - lseek(fd, 0, SEEK_CUR);
        if (left <= 0) {
            errno = EIO;
            return -1;
        }
        if (length > (size_t)left) length = left;
    }
    return real(fd, bytes, length);
}
