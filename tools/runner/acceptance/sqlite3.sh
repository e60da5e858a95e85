# Packages: sqlite3
# sqlite3: 10,000 inserts in a transaction; kill -9 in the middle of one, with and without a write-ahead log; many writers.
set -e
dir=$(mktemp -d); cd "$dir"
sqlite3 data.db 'create table t(id integer primary key, name text, n int); create index by_name on t(name);'
{
    echo 'begin;'
    for ((i = 1; i <= 10000; i++)); do echo "insert into t(name, n) values('name $i', $((i * 7 % 1000)));"; done
    echo 'commit;'
} | sqlite3 data.db
state='select count(*), sum(n), min(name), max(name) from t; pragma integrity_check;'
sqlite3 data.db "$state"

# Begins a transaction too large for its cache, so that the file itself is changed, and never ends it.
crash() {
    coproc sqlite3 -batch "$1"
    local pid=$COPROC_PID line
    echo "pragma cache_size = 10; begin; update t set n = n + 1, name = name || '!';
        insert into t(name, n) select name, n from t; select 'in the transaction';" >&"${COPROC[1]}"
    read -r line <&"${COPROC[0]}"; echo "$line"
    ls | tr '\n' ' '; echo
    kill -KILL "$pid"; wait "$pid" 2> /dev/null || echo "status $?"
}
crash data.db
sqlite3 data.db "$state"
ls

sqlite3 data.db 'pragma journal_mode = wal'
crash data.db
sqlite3 data.db "$state"
ls

sqlite3 many.db 'pragma journal_mode = wal; create table counter(n); insert into counter values(0);'
for writer in 1 2 3 4; do
    for round in {1..10}; do echo 'begin immediate; update counter set n = n + 1; commit;'; done |
        sqlite3 -cmd '.timeout 100000' many.db &
done
wait
sqlite3 many.db 'select n from counter; pragma integrity_check;'
cd /; rm -r "$dir"
