# Packages: strace
# strace: the calls of a shell, of its child, what a signal and an exit look like, injected errors, attaching.
cd "$(mktemp -d)" || exit
echo content > file
# A command under strace; what strace wrote follows what the command wrote. riscv_hwprobe, which libc asks at every start,
# Debian's strace does not know: it is always shown, as a number.
traced() { strace -o log "$@"; echo "status $?"; sed -E 's/(pid=|pid +)[0-9]+/\1N/; s/^[0-9]+ +//; s/ +=/ =/; /^syscall_0x102/d' log; }
traced -qq -e trace=write sh -c 'echo one; echo two >&2' 2>&1
traced -qq -e trace=openat,read,close -P file sh -c 'read line < file; echo "$line"'
traced -f -qq -e trace=exit_group -e signal=none sh -c '(exit 3); exit 4'
traced -e trace=none sh -c 'kill -TERM $$'
traced -qq -e trace=unlinkat -e inject=unlinkat:error=EPERM rm file 2>&1; ls file
sleep 100 & pid=$!
until [ "$(cut -d ' ' -f 2,3 /proc/$pid/stat)" = '(sleep) S' ]; do sleep 0.1; done
strace -qq -p $pid -o attached & tracer=$!
until grep -q '^TracerPid:.[1-9]' /proc/$pid/status && [ -s attached ]; do sleep 0.1; done
kill -INT $tracer; wait $tracer; kill $pid; wait $pid; echo "status $?"
sed 's/<.*//' attached
