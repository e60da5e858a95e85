# tar and gzip: a tree packed, unpacked, compared; sparse files, links and modes survive.
set -e
dir=$(mktemp -d); cd "$dir"
mkdir -p tree/sub; cp -r /usr/share/perl5 tree/sub; ln -s sub/perl5 tree/link; truncate -s 10M tree/sparse
echo data > tree/first; ln tree/first tree/second; chmod 640 tree/first
tar -czSf tree.tar.gz tree; mkdir out; tar -xzf tree.tar.gz -C out
diff -r --no-dereference tree out/tree && echo same
stat -c '%a %h %n' out/tree/first; readlink out/tree/link
[ "$(stat -c %b out/tree/sparse)" -lt 100 ] && echo sparse
gzip -t tree.tar.gz && echo intact
cd /; rm -r "$dir"; ls -d "$dir" 2>/dev/null || echo removed
