// Appends the time in nanoseconds as a line to the file that is named, and waits to be
// killed, or ends at once if a second word is given: the process that every peer of the
// comparison runs, and its own witness of when it ran.
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static void end(int signal) {
    (void)signal;
    _exit(0);
}

int main(int argc, char **argv) {
    struct timespec now;
    char line[32];
    clock_gettime(CLOCK_REALTIME, &now);
    int length = snprintf(line, sizeof line, "%lld\n", now.tv_sec * 1000000000LL + now.tv_nsec);
    int file = argc >= 2 ? open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0666) : -1;
    if (file < 0 || write(file, line, length) != length) {
        return 1;
    }
    close(file);
    if (argc > 2) {
        return 0;
    }
    // As process 1 of a container it gets only signals that it handles.
    signal(SIGTERM, end);
    for (;;) {
        pause();
    }
}
