/* Tries what a container must not be able to do, each in a process of its own, and says for each
 * which errno it got, or "ok". */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/quota.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long outsider; /* a process of the host's */

static int opened(const char *path, int flags) { return open(path, flags | O_CLOEXEC); }

/* A node that could be made is no harm as long as it cannot be opened. */
static int disk(const char *path) {
    unlink(path);
    if (mknod(path, S_IFBLK | 0600, makedev(254, 0)) < 0 && errno != EEXIST) return -1;
    return opened(path, O_RDONLY);
}

static int by_handle(void) {
    struct file_handle *handle = calloc(1, sizeof *handle + 128);
    int mount;
    handle->handle_bytes = 128;
    if (name_to_handle_at(AT_FDCWD, "/etc/hosts", handle, &mount, 0) < 0) return -1;
    return open_by_handle_at(opened("/etc", O_RDONLY), handle, O_RDONLY);
}

static int new_process(unsigned long flags) {
    long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) _exit(0);
    return pid < 0 ? -1 : 0;
}

#define TRY(name, what)                                                                    \
    do {                                                                                   \
        fflush(stdout);                                                                    \
        if (fork() == 0) {                                                                 \
            errno = 0;                                                                     \
            long result = (what);                                                          \
            printf("try %s %s\n", name, result < 0 ? strerrorname_np(errno) : "ok");       \
            fflush(stdout);                                                                \
            _exit(0);                                                                      \
        }                                                                                  \
        wait(NULL);                                                                        \
    } while (0)

static char zeros[256];

int main(int count, char **words) {
    outsider = count > 1 ? atol(words[1]) : 1;
    struct timeval past = {1, 0};
    struct timespec old = {1, 0};
    TRY("mount", mount("none", "/mnt", "tmpfs", 0, ""));
    TRY("mount-proc", mount("proc", "/mnt", "proc", 0, ""));
    TRY("remount", mount("none", "/proc/sys", "", MS_REMOUNT | MS_BIND, ""));
    TRY("umount", umount2("/proc/kcore", MNT_DETACH));
    TRY("pivot-root", syscall(SYS_pivot_root, "/", "/tmp"));
    TRY("open-tree", syscall(SYS_open_tree, AT_FDCWD, "/", 1));
    TRY("fsopen", syscall(SYS_fsopen, "tmpfs", 0));
    TRY("unshare-user", unshare(CLONE_NEWUSER));
    TRY("unshare-mount", unshare(CLONE_NEWNS));
    TRY("clone-user", new_process(CLONE_NEWUSER));
    TRY("clone-net", new_process(CLONE_NEWNET));
    TRY("clone3", syscall(SYS_clone3, zeros, 64));
    TRY("setns", setns(opened("/proc/self/ns/uts", O_RDONLY), CLONE_NEWUTS));
    TRY("open-disk-in-root", disk("/tmp/disk"));
    TRY("open-disk-in-dev", disk("/dev/disk"));
    TRY("open-disk-in-volume", disk("/data/disk"));
    TRY("ptrace-outside", ptrace(PTRACE_ATTACH, outsider, 0, 0));
    TRY("kill-outside", kill(outsider, 0));
    TRY("open-by-handle", by_handle());
    TRY("load-module", syscall(SYS_init_module, zeros, sizeof zeros, ""));
    TRY("delete-module", syscall(SYS_delete_module, "none", 0));
    TRY("add-key", syscall(SYS_add_key, "user", "name", "x", 1, -2));
    TRY("keyctl", syscall(SYS_keyctl, 0, -3, 1));
    TRY("bpf", syscall(SYS_bpf, 0, zeros, 48));
    TRY("perf", syscall(SYS_perf_event_open, zeros, 0, -1, -1, 0));
    TRY("userfaultfd", syscall(SYS_userfaultfd, 1));
    TRY("io-uring", syscall(SYS_io_uring_setup, 1, zeros));
    TRY("reboot", reboot(RB_DISABLE_CAD));
    TRY("settimeofday", settimeofday(&past, NULL));
    TRY("clock-settime", clock_settime(CLOCK_REALTIME, &old));
    TRY("swapon", swapon("/tmp/swap", 0));
    TRY("kexec", syscall(SYS_kexec_load, 0, 0, 0, 0));
    TRY("acct", acct("/tmp/acct"));
    TRY("iopl", syscall(SYS_iopl, 3));
    TRY("quota", quotactl(QCMD(Q_SYNC, USRQUOTA), NULL, 0, NULL));
    TRY("kernel-log", klogctl(3, zeros, sizeof zeros));
    TRY("hostname", sethostname("other", 5));
    TRY("vsock", socket(AF_VSOCK, SOCK_STREAM, 0));
    TRY("no-randomisation", personality(ADDR_NO_RANDOMIZE));
    TRY("core-pattern", opened("/proc/sys/kernel/core_pattern", O_WRONLY));
    TRY("modprobe", opened("/proc/sys/kernel/modprobe", O_WRONLY));
    TRY("sysrq", opened("/proc/sysrq-trigger", O_WRONLY));
    TRY("uevent-helper", opened("/sys/kernel/uevent_helper", O_WRONLY));
    TRY("sys", opened("/sys/kernel/profiling", O_WRONLY));
    TRY("release-agent", opened("/sys/fs/cgroup/memory/release_agent", O_WRONLY));
    TRY("make-cgroup", mkdir("/sys/fs/cgroup/memory/own", 0755));
    TRY("own-limit", opened("/sys/fs/cgroup/memory/memory.limit_in_bytes", O_WRONLY));
    TRY("mem", opened("/dev/mem", O_RDONLY));
    TRY("kmsg", opened("/dev/kmsg", O_RDONLY));
    TRY("outsiders-root", opened("/proc/self/../../../../proc/1/root/proc/1/../../etc/keel-outside", O_RDONLY));
    puts("tries are over");
    return 0;
}
