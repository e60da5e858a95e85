# Packages: xz-utils rsync
# xz and rsync: a tree packed by threads and unpacked; a copy that is brought up to date, with links, modes and times.
set -e
dir=$(mktemp -d); cd "$dir"
mkdir -p tree/sub/deep; for name in a b c; do seq 1 50000 | tee "tree/sub/$name" > "tree/sub/deep/$name"; done
ln -s sub tree/link; echo data > tree/first; ln tree/first tree/second
chmod 640 tree/first; touch -d '2001-02-03T04:05:06.789Z' tree/first; truncate -s 1M tree/sparse
tar -c tree > tree.tar
xz -T2 --block-size=1MiB -k -1 tree.tar; xz -t tree.tar.xz && echo intact
xz -l --robot tree.tar.xz | awk '$1 == "file" { print ($3 > 1 ? "blocks" : "one block"), ($5 == '"$(stat -c %s tree.tar)"') }'
xz -dc tree.tar.xz | cmp - tree.tar && echo same

rsync -aHS tree/ copy; diff -r --no-dereference tree copy && echo copied
stat -c '%a %h %y' copy/first; readlink copy/link; [ "$(stat -c %b copy/sparse)" -lt 100 ] && echo sparse
rsync -aHi tree/ copy | wc -l
rm tree/second; echo more >> tree/first; mkdir tree/new; mv tree/sub/deep tree/new/
rsync -aHi --delete tree/ copy | LC_ALL=C sort
diff -r --no-dereference tree copy && echo 'up to date'
# What is changed in a large file is sent, not the file.
seq 1 300000 > large; cp large old; sed -i 's/^150000$/here/' large
rsync --no-whole-file --stats large old | awk -F '[ :,]+' '/Literal data/ { print (($3 $4) + 0 < 100000 ? "a part" : $0) }'
cmp large old && echo same
cd /; rm -r "$dir"
