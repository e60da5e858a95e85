# Packages: gdb gcc libc6-dev
# gdb: breakpoints, stepping, a watchpoint, registers, a stack, a thread, a crash and its core, attaching.
set -e
cd "$(mktemp -d)"
cat > program.c <<END
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
volatile int counter;
int twice(int value)
{
	int result = value * 2;
	return result;
}
void *thread(void *arg)
{
	counter = twice(21);
	return arg;
}
int main(int argc, char **argv)
{
	pthread_t id;
	printf("%d\n", twice(argc));
	fflush(stdout);
	pthread_create(&id, 0, thread, 0);
	pthread_join(id, 0);
	if (argc > 1)
		*(int *)0 = 1;
	return counter;
}
END
gcc -g -O0 -pthread program.c -o program
export DEBUGINFOD_URLS= LC_ALL=C.UTF-8
# What differs from one run, libc or architecture to the next is not shown; so the address of a frame, which stands there when
# a line's first instruction is not the one that faults.
debug() {
    gdb -nx -q -batch -ex 'set confirm off' -ex 'set print thread-events off' -ex 'set print address off' "$@" 2>&1 |
        grep -vE 'libthread_db|^$|New (Thread|LWP)|Switching to|in \.\./sys|No such file|^warning|^Core was' |
        sed -E "s|$PWD/||g; s/0x[0-9a-f]+/ADDRESS/g; s/\+ ?[0-9]+/+ N/; s/(process|LWP|id =) [0-9]+/\1 N/; s/Hardware w/W/; s/ +/ /g; s/\t</ </; s/^#0 ADDRESS in /#0 /"
}
echo '--- breakpoint, stack, registers, steps'
debug -ex 'break twice' -ex run -ex bt -ex 'info symbol $pc' -ex 'info registers pc' -ex 'frame 1' -ex 'print argc' \
    -ex 'frame 0' -ex next -ex 'print result' -ex 'set variable result = 33' -ex finish -ex delete -ex continue program
echo '--- watchpoint, thread'
debug -ex 'break thread' -ex run -ex 'watch counter' -ex continue -ex 'print counter' -ex 'thread apply 2 bt 1' -ex kill program
echo '--- crash'
debug -ex 'run argument' -ex bt -ex 'print $_siginfo.si_signo' -ex 'print $_siginfo._sifields._sigfault.si_addr' \
    -ex 'generate-core-file saved' program
debug -ex bt -ex 'print counter' program saved
echo '--- attached'
printf '#include <unistd.h>\nint woken; int main(void) { while (!woken) usleep(1000); return 5; }\n' > loop.c
gcc -g loop.c -o loop; ./loop & pid=$!
debug -p $pid -ex 'print woken' -ex 'set variable woken = 1' -ex detach | grep -E '^\$|detached'
wait $pid || echo "status $?"
