// The kernel spares a container's first process the signals that it does not ask for; json-server asks for none.
'use strict';

process.on('SIGTERM', () => process.exit(0));
