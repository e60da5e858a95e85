# Packages: gcc make libc6-dev
# gcc and make: a program of one file; a project of several with a library, rebuilt when a header changes; threads.
set -e
dir=$(mktemp -d); cd "$dir"
printf '#include <stdio.h>\nint main(void) { puts("hello"); return 3; }\n' > hello.c
gcc hello.c; ./a.out || echo "status $?"
gcc -static -O2 hello.c -o static; ./static || echo "status $?"
echo 'int main(void) { return missing(); }' > broken.c
gcc broken.c -o broken 2> errors || grep -c 'undeclared\|implicit' errors

mkdir project; cd project
cat > list.h <<END
#define SCALE 1
struct node { int value; struct node *next; };
struct node *push(struct node *list, int value);
int sum(const struct node *list);
END
cat > push.c <<END
#include <stdlib.h>
#include "list.h"
struct node *push(struct node *list, int value)
{
	struct node *node = malloc(sizeof *node);
	*node = (struct node){ value * SCALE, list };
	return node;
}
END
cat > sum.c <<END
#include "list.h"
int sum(const struct node *list) { return list ? list->value + sum(list->next) : 0; }
END
cat > main.c <<END
#include <pthread.h>
#include <stdio.h>
#include "list.h"
static void *work(void *arg)
{
	struct node *list = 0;
	for (int i = 1; i <= 100; i++)
		list = push(list, i);
	*(int *)arg = sum(list);
	return 0;
}
int main(void)
{
	pthread_t threads[4];
	int sums[4], total = 0;
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], 0, work, &sums[i]);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], 0), total += sums[i];
	printf("%d\n", total);
}
END
cat > Makefile <<'END'
CFLAGS = -O2 -Wall -Werror -pthread
sum: main.o liblist.a
	@echo LD $@
	@$(CC) $(CFLAGS) -o $@ main.o -L. -llist
liblist.a: push.o sum.o
	@echo AR $@
	@$(AR) rc $@ push.o sum.o
%.o: %.c list.h
	@echo CC $@
	@$(CC) $(CFLAGS) -c -o $@ $<
END
make -s -j4 sum | sort; ./sum
make -q sum && echo 'up to date'
sed -i 's/SCALE 1/SCALE 2/' list.h
make -s -j4 sum | sort; ./sum
cd /; rm -r "$dir"
