# Packages: python3 libpython3.13-testsuite
# python3: those of its own tests that are about the kernel. Left out are what needs a network (all of test_epoll, most of
# test_socket), and of timerfd the tests that allow less than a millisecond between two lines of Python, which is more than
# an emulator can promise.
cd "$(mktemp -d)" || exit
export LC_ALL=C.UTF-8
check() {
    if python3 -m test "$@" > log 2>&1; then
        echo "$1 ok"
    else
        echo "$1 FAIL"; grep -aE '^(ERROR|FAIL): ' log | sort -u; tail -n 60 log >&2
    fi
}
check test_os -i '*TestSendfile*' -i '*timerfd*initval' -i '*timerfd*interval' -i '*timerfd*ABSTIME'
check test_signal -i '*test_invalid_socket' -i '*test_set_wakeup_fd_socket_result'
check test_socket -m 'Basic*SocketPair*' -m '*Unix*' -m '*Abstract*' -m '*FdsTests*' -m '*SCMRights*Stream*'
for name in posix mmap fcntl pty openpty select poll selectors ioctl fork1 wait3 wait4 resource threadsignals thread threading \
    subprocess shutil tempfile fileio largefile time; do
    check test_$name
done
