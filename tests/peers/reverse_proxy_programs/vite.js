// Vite's development server on a folder that it creates and that the test removes.
//
//     node vite.js VITE FOLDER
//
// VITE is the folder of the package. Prints the URL. Changes the page's module when a request asks for it.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const { pathToFileURL } = require('node:url');

const [vite, folder] = process.argv.slice(2);
const root = fs.realpathSync(folder);
const PAGE = '<!doctype html><title>page</title><script type="module" src="/main.js"></script>\n';
const version = (number) => `export const version = ${number};\nimport.meta.hot.accept();\n`;

const changeFile = {
  name: 'change-file',
  configureServer(server) {
    server.middlewares.use('/change', (request, response) => {
      const file = path.join(root, 'main.js');
      fs.writeFileSync(file, version(2));
      // The watcher may still be starting, and would then miss the change.
      server.watcher.emit('change', file);
      response.end('changed');
    });
  },
};

async function main() {
  const { createServer } = await import(pathToFileURL(path.join(vite, 'dist/node/index.js')));
  fs.writeFileSync(path.join(root, 'index.html'), PAGE);
  fs.writeFileSync(path.join(root, 'main.js'), version(1));
  const server = await createServer({
    root,
    configFile: false,
    envFile: false,
    logLevel: 'error',
    optimizeDeps: { noDiscovery: true },
    plugins: [changeFile],
    server: { host: '127.0.0.1', port: 0 },
  });
  await server.listen();
  console.log(`listening on http://127.0.0.1:${server.httpServer.address().port}`);
}

main();
