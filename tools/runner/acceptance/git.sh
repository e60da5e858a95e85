# Packages: git
# git: init, commit, log, branches, a merge with a conflict, gc, fsck, clone, fetch.
set -e
dir=$(mktemp -d); cd "$dir"
export HOME=$dir GIT_AUTHOR_NAME=Author GIT_AUTHOR_EMAIL=author@example.org GIT_COMMITTER_NAME=Author \
    GIT_COMMITTER_EMAIL=author@example.org GIT_AUTHOR_DATE='2026-11-27T12:00:00Z' GIT_COMMITTER_DATE='2026-11-27T12:00:00Z'
git init -q -b main first; cd first
for ((i = 1; i <= 20; i++)); do
    mkdir -p "dir$((i % 5))"; seq 1 $((i * 10)) > "dir$((i % 5))/file$i"; echo "line $i" >> all
    git add .; git commit -q -m "commit $i"
done
chmod +x all; ln -s all link; git add .; git commit -q -m 'modes and links'
git log --oneline | wc -l; git log -1 --format='%H %s'
git ls-tree HEAD | cut -c 1-11,53-
git checkout -q -b side HEAD~3; sed -i '1s/.*/from the side/' all; git commit -q -a -m side
git checkout -q main; sed -i '1s/.*/from main/' all; git commit -q -a -m main
git merge side > merge || grep CONFLICT merge
sed -i '/^[<=>]/d' all; git commit -q -a -m merged; head -n 2 all; git log -1 --format=%H
git gc -q; git count-objects -v | grep -E '^(count|packs|in-pack)'
git fsck --full --strict --no-dangling && echo sound
git clone -q --no-local . ../second; cd ../second
git log --oneline | wc -l; git status --short --branch; git diff --stat HEAD~1 | tail -n 1
echo more >> all; git commit -q -a -m more; cd ../first
git fetch -q ../second main && git merge -q --ff-only FETCH_HEAD && git log -1 --format='%H %s'
git clone -q . ../third && git -C ../third fsck --no-dangling && stat -c %a ../third/all && readlink ../third/link
git archive HEAD | tar -t | wc -l
cd /; rm -rf "$dir"
