/* Preloaded into a writer: counts the calls by which it changes (or reads) files below one folder, and lets the N-th
 * one kill the process (before it, after it, or in the middle of it) or fail. Not armed, it does nothing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { OFF, KILL_BEFORE, KILL_AFTER, KILL_HALFWAY, FAIL };

static char below[PATH_MAX];
static size_t below_length;
static int what, reads, number;
static long first, last, calls, fired;

/* Arm: the calls from the first to the last one fail with the error number, or the first one kills. */
void fault_arm(const char *folder, int kind, int of_reads, int error, long from, long to) {
    snprintf(below, sizeof below, "%s", folder);
    below_length = strlen(below);
    reads = of_reads, number = error, first = from, last = to;
    __atomic_store_n(&calls, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&fired, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&what, kind, __ATOMIC_SEQ_CST);
}

long fault_calls(void) { return __atomic_load_n(&calls, __ATOMIC_SEQ_CST); }
long fault_fired(void) { return __atomic_load_n(&fired, __ATOMIC_SEQ_CST); }

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Count a call; return what is to happen to it. */
static int due(const char *path, int reading) {
    if (!__atomic_load_n(&what, __ATOMIC_SEQ_CST) || reading != reads) return OFF;
    if (strncmp(path, below, below_length)) return OFF;
    long now = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (now < first || now > last) return OFF;
    __atomic_add_fetch(&fired, 1, __ATOMIC_SEQ_CST);
    if (what == KILL_BEFORE) die();
    return what;
}

static int due_of(int descriptor, int reading) {
    char link[64], path[PATH_MAX];
    if (!__atomic_load_n(&what, __ATOMIC_SEQ_CST) || reading != reads) return OFF;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return OFF;
    path[length] = 0;
    return due(path, reading);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
/* The call itself; a write that is interrupted halfway writes half of its bytes. */
#define WITH(fate, half, whole)                                                                                        \
    int fate_ = (fate);                                                                                                \
    if (fate_ == FAIL) return errno = number, -1;                                                                      \
    if (fate_ == KILL_HALFWAY) { if ((half) < 0) { /* as good as not at all */ } die(); }                              \
    __typeof__(whole) result_ = (whole);                                                                               \
    if (fate_ == KILL_AFTER) die();                                                                                    \
    return result_;

ssize_t write(int f, const void *data, size_t n) { WITH(due_of(f, 0), REAL(write)(f, data, n / 2), REAL(write)(f, data, n)) }
ssize_t pwrite(int f, const void *data, size_t n, off_t at) {
    WITH(due_of(f, 0), REAL(pwrite)(f, data, n / 2, at), REAL(pwrite)(f, data, n, at))
}
ssize_t pwrite64(int f, const void *data, size_t n, off64_t at) {
    WITH(due_of(f, 0), REAL(pwrite64)(f, data, n / 2, at), REAL(pwrite64)(f, data, n, at))
}
int fsync(int f) { WITH(due_of(f, 0), 0, REAL(fsync)(f)) }
int fdatasync(int f) { WITH(due_of(f, 0), 0, REAL(fdatasync)(f)) }
int ftruncate(int f, off_t n) { WITH(due_of(f, 0), 0, REAL(ftruncate)(f, n)) }
int ftruncate64(int f, off64_t n) { WITH(due_of(f, 0), 0, REAL(ftruncate64)(f, n)) }
int rename(const char *a, const char *b) { WITH(due(a, 0), 0, REAL(rename)(a, b)) }
int unlink(const char *a) { WITH(due(a, 0), 0, REAL(unlink)(a)) }
int mkdir(const char *a, mode_t m) { WITH(due(a, 0), 0, REAL(mkdir)(a, m)) }
int rmdir(const char *a) { WITH(due(a, 0), 0, REAL(rmdir)(a)) }

ssize_t read(int f, void *data, size_t n) { WITH(due_of(f, 1), 0, REAL(read)(f, data, n)) }
ssize_t pread(int f, void *data, size_t n, off_t at) { WITH(due_of(f, 1), 0, REAL(pread)(f, data, n, at)) }
ssize_t pread64(int f, void *data, size_t n, off64_t at) { WITH(due_of(f, 1), 0, REAL(pread64)(f, data, n, at)) }

#define OPENING(name, before, arguments)                                                                               \
    int name before {                                                                                                  \
        mode_t mode = 0;                                                                                               \
        if (flags & O_CREAT) {                                                                                         \
            va_list rest;                                                                                              \
            va_start(rest, flags);                                                                                     \
            mode = va_arg(rest, int);                                                                                  \
            va_end(rest);                                                                                              \
        }                                                                                                              \
        WITH(flags & O_CREAT ? due(path, 0) : OFF, 0, REAL(name) arguments)                                            \
    }
OPENING(open, (const char *path, int flags, ...), (path, flags, mode))
OPENING(open64, (const char *path, int flags, ...), (path, flags, mode))
OPENING(openat, (int at, const char *path, int flags, ...), (at, path, flags, mode))
OPENING(openat64, (int at, const char *path, int flags, ...), (at, path, flags, mode))
