// Keeps the stock: plain Node.js, no dependencies.
//
// PUT /items/{item}/reservations/{id} is idempotent: reserving twice under one id reserves once.
'use strict';

const http = require('http');

const CAPACITY = 100000;
const reserved = new Map();

function answer(response, status, value) {
  const body = JSON.stringify(value);
  response.writeHead(status, { 'Content-Type': 'application/json' });
  response.end(body);
}

const server = http.createServer((request, response) => {
  const match = /^\/items\/([^/]+)\/reservations\/([^/]+)$/.exec(request.url);
  request.resume();
  if (request.url === '/healthz') return answer(response, 200, { ok: true });
  if (!match || request.method !== 'PUT') return answer(response, 404, { error: 'not found' });
  const [, item, id] = match;
  if (reserved.size >= CAPACITY) reserved.delete(reserved.keys().next().value);
  reserved.set(id, item);
  return answer(response, 200, { item, id, by: `node ${process.version}`, pid: process.pid });
});

server.listen(Number(process.env.APP_PORT), '127.0.0.1');
process.on('SIGTERM', () => server.close(() => process.exit(0)));
