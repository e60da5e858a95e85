# A package is built, installed by apt-get, listed, removed and purged.
set -e
dir=$(mktemp -d); cd "$dir"; chmod 755 .
mkdir -p hello/DEBIAN hello/usr/bin hello/etc
printf '#!/bin/sh\ncat /etc/hello.conf\n' > hello/usr/bin/hello-ochre; chmod 755 hello/usr/bin/hello-ochre
echo "hello from a package" > hello/etc/hello.conf
cat > hello/DEBIAN/control <<END
Package: hello-ochre
Version: 1.0
Architecture: all
Maintainer: Nobody <nobody@localhost>
Depends: bash
Description: says hello
END
echo /etc/hello.conf > hello/DEBIAN/conffiles
printf '#!/bin/sh\necho "postinst $1"\n' > hello/DEBIAN/postinst; chmod 755 hello/DEBIAN/postinst
dpkg-deb --build --root-owner-group hello > /dev/null
apt-get install -qq -y ./hello.deb < /dev/null 2>&1 | grep -o 'postinst configure'
hello-ochre
dpkg-query -W -f '${Package} ${Version} ${Status}\n' hello-ochre
dpkg -V hello-ochre && echo verified
dpkg -r hello-ochre | grep -c Removing
ls /usr/bin/hello-ochre 2>/dev/null || echo gone
ls /etc/hello.conf
dpkg -P hello-ochre > /dev/null
ls /etc/hello.conf 2>/dev/null || echo purged
dpkg --audit
