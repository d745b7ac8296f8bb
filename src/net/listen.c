/*
 * listen: addresses of the configuration to listening sockets. Runs once per shard at start, in the
 * shard's thread. A port that another process holds is waited for: a ring that is torn down with an
 * accept in flight keeps its port some 10 ms beyond the end of its process.
 */
#include "net/listen.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    HOST_BYTES = 256,
    PORT_BYTES = 6,
    BACKLOG = 4096, /* the kernel clamps it to net.core.somaxconn */
    BIND_ATTEMPTS = 200,
};

#define BIND_RETRY_NS (10 * NS_MS) /* with BIND_ATTEMPTS: 2 s */

struct listen_name {
    char host[HOST_BYTES];
    char port[PORT_BYTES];
};

static bool listen_is_port(const char *text)
{
    size_t bytes = strlen(text);
    unsigned value = 0;

    if (bytes == 0 || bytes >= PORT_BYTES) {
        return false;
    }
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        value = value * 10 + (unsigned)(text[i] - '0');
    }
    return value <= 65535;
}

static bool listen_split(struct listen_name *name, const char *text)
{
    const char *host = text;
    const char *colon = strrchr(text, ':');

    if (colon == NULL || !listen_is_port(colon + 1)) {
        return false;
    }
    size_t host_bytes = (size_t)(colon - text);
    if (text[0] == '[') {
        if (host_bytes < 3 || text[host_bytes - 1] != ']') {
            return false;
        }
        host++;
        host_bytes -= 2;
    } else if (memchr(text, ':', host_bytes) != NULL) {
        return false; /* an IPv6 address needs its brackets */
    }
    if (host_bytes >= HOST_BYTES) {
        return false;
    }
    memcpy(name->host, host, host_bytes);
    name->host[host_bytes] = '\0';
    memcpy(name->port, colon + 1, strlen(colon + 1) + 1);
    return true;
}

static int listen_resolve(struct addrinfo **found, const struct listen_name *name, int family)
{
    struct addrinfo hints = {
        .ai_family = family,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_PASSIVE | AI_NUMERICSERV,
    };

    return getaddrinfo(name->host[0] != '\0' ? name->host : NULL, name->port, &hints, found);
}

static int listen_bind(int fd, const struct addrinfo *address)
{
    for (unsigned attempt = 0;; attempt++) { /* bound: BIND_ATTEMPTS */
        if (bind(fd, address->ai_addr, address->ai_addrlen) == 0) {
            return 0;
        }
        int r = -errno;
        if (r != -EADDRINUSE || attempt + 1 >= BIND_ATTEMPTS) {
            return r;
        }
        struct timespec pause = {.tv_sec = 0, .tv_nsec = (long)BIND_RETRY_NS};
        (void)nanosleep(&pause, NULL);
    }
}

static int listen_configure(int fd, int family)
{
    const int on = 1;
    const int off = 0;

    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0) {
        return -errno;
    }
    if (family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) != 0) {
        return -errno;
    }
    return 0;
}

static unsigned listen_port(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t bytes = sizeof(address);

    if (getsockname(fd, (struct sockaddr *)(void *)&address, &bytes) != 0) {
        return 0; /* UNTESTED: a bound socket has a name */
    }
    if (address.ss_family == AF_INET6) {
        return ntohs(((struct sockaddr_in6 *)(void *)&address)->sin6_port);
    }
    /* getsockname filled it, which clang-tidy 14 does not see. */
    return ntohs(((struct sockaddr_in *)(void *)&address)->sin_port); /* NOLINT */
}

static int listen_socket(const struct addrinfo *address)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -errno;
    }
    int r = listen_configure(fd, address->ai_family);
    if (r == 0) {
        r = listen_bind(fd, address);
    }
    if (r == 0 && listen(fd, BACKLOG) != 0) {
        r = -errno;
    }
    if (r < 0) {
        close(fd);
        return r;
    }
    return fd;
}

static int listen_error(int code, const char *text, struct err *err)
{
    const char *mend = "";

    if (code == -EADDRINUSE) {
        mend = "; another process listens there: stop it or choose another port (server.listen)";
    } else if (code == -EACCES) {
        mend = "; ports below 1024 need CAP_NET_BIND_SERVICE or another port";
    } else if (code == -EADDRNOTAVAIL) {
        mend = "; this host has no such address";
    }
    return err_set(err, code, "listen on %s: %s%s", text, err_name(code), mend);
}

int listen_open(const char *text, unsigned *port, struct err *err)
{
    struct listen_name name;
    struct addrinfo *found = NULL;

    ASSERT(text != NULL);
    ASSERT(port != NULL);
    if (!listen_split(&name, text)) {
        return err_set(err, -EINVAL, "listen on %s: write HOST:PORT, [IPV6]:PORT or :PORT", text);
    }
    /* Every address: one IPv6 socket takes both families; a host without IPv6 gets the IPv4 one. */
    bool is_wildcard = name.host[0] == '\0';
    int lookup = listen_resolve(&found, &name, is_wildcard ? AF_INET6 : AF_UNSPEC);
    if (lookup != 0) {
        return err_set(err, -EINVAL, "listen on %s: %s", text, gai_strerror(lookup));
    }
    int fd = listen_socket(found);
    freeaddrinfo(found);
    if (fd == -EAFNOSUPPORT && is_wildcard && listen_resolve(&found, &name, AF_INET) == 0) {
        fd = listen_socket(found);
        freeaddrinfo(found);
    }
    if (fd < 0) {
        return listen_error(fd, text, err);
    }
    *port = listen_port(fd);
    return fd;
}
