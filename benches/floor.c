// What the kernel alone takes for a container, as the least that any runtime can: a process in
// namespaces of its own, in a cgroup of its own in each hierarchy of version 1, on an overlay of
// its own, that becomes a program.
//
//   floor outside|inside NAME LOWER SCRATCH OUT PROGRAM [ARGUMENT…]
//
// `outside`: the parent writes the process's number to `cgroup.procs`, as runtimes do; the kernel
// then waits until no process of the machine forks. `inside`: the process writes itself to `tasks`,
// for which nobody has to wait. SCRATCH is an empty folder; OUT is bound to /out.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *HIERARCHIES[] = {"memory", "cpu", "cpuacct", "pids", "devices"};
enum { COUNT = sizeof HIERARCHIES / sizeof *HIERARCHIES };

static void check(int failed, const char *what) {
    if (failed) {
        perror(what);
        exit(1);
    }
}

static void enter(const char *name, const char *file, pid_t pid) {
    for (int i = 0; i < COUNT; i++) {
        char path[256], text[16];
        snprintf(path, sizeof path, "/sys/fs/cgroup/%s/%s/%s", HIERARCHIES[i], name, file);
        int length = snprintf(text, sizeof text, "%d", pid);
        int opened = open(path, O_WRONLY | O_CLOEXEC);
        check(opened < 0 || write(opened, text, length) != length, path);
        close(opened);
    }
}

static void become(const char *lower, const char *scratch, const char *out, char **program) {
    char options[4096], path[4096];
    check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private mounts");
    check(chdir(scratch), scratch);
    check(mkdir("upper", 0755) || mkdir("work", 0755) || mkdir("root", 0755), "folders");
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=upper,workdir=work", lower);
    check(mount("overlay", "root", "overlay", 0, options), "overlay");
    snprintf(path, sizeof path, "%s/root/out", scratch);
    check(mount(out, path, NULL, MS_BIND, NULL), path);
    check(chdir("root"), "root");
    check(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    check(umount2(".", MNT_DETACH), "old root");
    check(chdir("/"), "/");
    execv(program[0], program);
    check(1, program[0]);
}

int main(int argc, char **argv) {
    check(argc < 7, "usage");
    int inside = !strcmp(argv[1], "inside"), gate[2];
    for (int i = 0; i < COUNT; i++) {
        char path[256];
        snprintf(path, sizeof path, "/sys/fs/cgroup/%s/%s", HIERARCHIES[i], argv[2]);
        check(mkdir(path, 0755), path);
    }
    check(pipe2(gate, O_CLOEXEC), "pipe");
    struct clone_args arguments = {
        .flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET,
        .exit_signal = SIGCHLD,
    };
    pid_t pid = syscall(SYS_clone3, &arguments, sizeof arguments);
    check(pid < 0, "clone3");
    if (pid == 0) {
        char byte;
        if (inside) {
            enter(argv[2], "tasks", 0);
        } else {
            check(read(gate[0], &byte, 1) != 1, "gate");
        }
        check(unshare(CLONE_NEWCGROUP), "cgroup namespace");
        become(argv[3], argv[4], argv[5], argv + 6);
    }
    if (!inside) {
        enter(argv[2], "cgroup.procs", pid);
        check(write(gate[1], "g", 1) != 1, "gate");
    }
    printf("%d\n", pid);
    return 0;
}
