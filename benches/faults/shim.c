/* Put before libc by LD_PRELOAD: makes the disk and the clock of one program lie, as a control file says.
 *
 * FAULTS_CONTROL names the control file, `struct control`; FAULTS_FOLDER the folder below which files fail. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct control {
    int32_t write_error; /* what writes say; 0 while they work */
    int32_t sync_error;  /* what fsync and fdatasync say */
    int32_t read_error;
    int32_t refused;     /* how often one of them was said */
    int64_t seconds;     /* by which the wall clock is off */
};

static volatile struct control *control;
static const char *folder;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS_CONTROL");
    folder = getenv("FAULTS_FOLDER");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *map = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map != MAP_FAILED)
        control = map;
    close(file);
}

/* True if `error` is to be said of the open file `file`. */
static int fails(int file, int32_t error) {
    char link[32], path[PATH_MAX];
    if (!error || !folder)
        return 0;
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = before;
    if (length < 0)
        return 0;
    path[length] = 0;
    if (strncmp(path, folder, strlen(folder)))
        return 0;
    __atomic_add_fetch((int32_t *)&control->refused, 1, __ATOMIC_RELAXED);
    errno = error;
    return 1;
}

#define REAL(name) ({ static __typeof__(&name) real; real ? real : (real = dlsym(RTLD_NEXT, #name)); })
#define INSTEAD(kind, type, name, given, words)                    \
    type name given {                                              \
        if (control && fails(file, control->kind##_error))         \
            return -1;                                             \
        return REAL(name) words;                                   \
    }

INSTEAD(write, ssize_t, write, (int file, const void *from, size_t count), (file, from, count))
INSTEAD(write, ssize_t, writev, (int file, const struct iovec *from, int count), (file, from, count))
INSTEAD(write, ssize_t, pwrite, (int file, const void *from, size_t count, off_t at), (file, from, count, at))
INSTEAD(write, ssize_t, pwrite64, (int file, const void *from, size_t count, off64_t at), (file, from, count, at))
INSTEAD(write, int, ftruncate, (int file, off_t length), (file, length))
INSTEAD(write, int, ftruncate64, (int file, off64_t length), (file, length))
INSTEAD(sync, int, fsync, (int file), (file))
INSTEAD(sync, int, fdatasync, (int file), (file))
INSTEAD(read, ssize_t, pread, (int file, void *to, size_t count, off_t at), (file, to, count, at))
INSTEAD(read, ssize_t, pread64, (int file, void *to, size_t count, off64_t at), (file, to, count, at))

int clock_gettime(clockid_t clock, struct timespec *to) {
    int result = REAL(clock_gettime)(clock, to);
    if (!result && control && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        to->tv_sec += control->seconds;
    return result;
}

int gettimeofday(struct timeval *restrict to, void *restrict zone) {
    int result = REAL(gettimeofday)(to, zone);
    if (!result && control)
        to->tv_sec += control->seconds;
    return result;
}

time_t time(time_t *to) {
    time_t now = REAL(time)(NULL) + (control ? control->seconds : 0);
    if (to)
        *to = now;
    return now;
}
