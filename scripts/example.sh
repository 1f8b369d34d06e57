#!/usr/bin/env bash
# Shows what dupfs does: installs what is missing, builds, lets duplicity save a small folder twice, saves it once more on top of that,
# mounts the collection, lists it, and compares two times. Leaves the mount in place when called with --keep.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
cargo build --release --locked
dupfs="$PWD/target/release/dupfs"

place="$PWD/target/example"
mountpoint -q "$place/history" 2>/dev/null && fusermount3 -u "$place/history"
rm -rf "$place"
mkdir -p "$place/home/photos" "$place/history"
export PASSPHRASE="correct horse" XDG_CACHE_HOME="$place/cache"
url="file://$place/backups"

save() { # WHEN: duplicity's clock is set, so that nobody has to wait for days to pass
  /usr/bin/duplicity --verbosity error --no-print-statistics --current-time "$(date -d "$1" +%s)" "$place/home" "$url"
}
show() {
  echo
  echo "\$ $*"
  (cd "$place/history" && "$@") || true # diff tells by its exit code that there are differences
}

printf 'milk\nbread\n' >"$place/home/shopping.txt"
head -c 100000 /dev/urandom >"$place/home/photos/cat.jpg"
save "3 days ago"
printf 'milk\nrye bread\ncheese\n' >"$place/home/shopping.txt"
ln -s photos/cat.jpg "$place/home/favourite"
save "2 days ago"
rm "$place/home/favourite"
echo "Dear diary" >"$place/home/diary.txt"
echo
echo "\$ dupfs backup $place/home $url"
"$dupfs" backup --current-time "$(date -d "1 day ago" +%s)" "$place/home" "$url"

echo
echo "\$ dupfs mount $url $place/history"
"$dupfs" mount "$url" "$place/history"
trap 'fusermount3 -u "$place/history"' EXIT
cd "$place/history"
times=(*T*)
show ls -l
show ls -lR "${times[0]}/"
show diff -r "${times[0]}" "${times[2]}"
show stat -c '%h backups show %n, inode %i' "${times[0]}/photos/cat.jpg" "${times[2]}/photos/cat.jpg"
cd "$place"

echo
if [ "${1:-}" = --keep ]; then
  trap - EXIT
  echo "Look around in $place/history, then: fusermount3 -u $place/history"
else
  echo "Unmounting; scripts/example.sh --keep leaves it mounted for you to look around."
fi
