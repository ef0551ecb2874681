/* With "keep" it makes one of each thing that programs of one machine meet by, says so and stays;
 * with "look" it says for each whether it is there, with "forget" what would stay is gone. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <netinet/in.h>
#include <unistd.h>

static struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "\0keel-test-apart"};
static const socklen_t length = offsetof(struct sockaddr_un, sun_path) + 16;
static struct sockaddr_in port = {.sin_family = AF_INET};

static void say(const char *what, long result) {
    printf("apart %s %s\n", what, result < 0 ? strerrorname_np(errno) : "ok");
    fflush(stdout);
}

int main(int count, char **words) {
    int key = 0x6b65656c;
    if (count > 1 && strcmp(words[1], "forget") == 0) {
        shmctl(shmget(key, 0, 0), IPC_RMID, NULL);
        msgctl(msgget(key, 0), IPC_RMID, NULL);
        semctl(semget(key, 0, 0), 0, IPC_RMID);
        mq_unlink("/keel-test-apart");
        shm_unlink("/keel-test-apart");
        return 0;
    }
    int keep = count > 1 && strcmp(words[1], "keep") == 0;
    int make = keep ? IPC_CREAT | 0666 : 0;
    port.sin_port = htons(7531);
    port.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    say("shm", shmget(key, keep ? 4096 : 0, make));
    say("msg", msgget(key, make));
    say("sem", semget(key, keep ? 1 : 0, make));
    say("queue", mq_open("/keel-test-apart", keep ? O_CREAT | O_RDWR : O_RDWR, 0666, NULL));
    say("memory", shm_open("/keel-test-apart", keep ? O_CREAT | O_RDWR : O_RDWR, 0666));
    int local = socket(AF_UNIX, SOCK_STREAM, 0), inet = socket(AF_INET, SOCK_STREAM, 0);
    if (keep) {
        bind(local, (struct sockaddr *)&name, length);
        say("abstract", listen(local, 8));
        bind(inet, (struct sockaddr *)&port, sizeof port);
        say("loopback", listen(inet, 8));
        puts("kept");
        fflush(stdout);
        for (;;) pause();
    }
    say("abstract", connect(local, (struct sockaddr *)&name, length));
    say("loopback", connect(inet, (struct sockaddr *)&port, sizeof port));
    puts("looked");
    return 0;
}
