// socket.io's own way: one emit for each token, unchecked. `node socket_relay.cjs PORT NODE_PORT`.
'use strict'
const http = require('node:http')
const { Server } = require('socket.io')

const [port, nodePort] = process.argv.slice(2).map(Number)
const agent = new http.Agent({ keepAlive: true, maxSockets: Infinity })
const server = http.createServer((request, response) => response.end())

function relay (socket, asked) {
  const body = JSON.stringify({ ...asked, stream: true })
  const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) }
  const options = { host: '127.0.0.1', port: nodePort, path: '/v1/chat/completions', method: 'POST', agent, headers }
  const request = http.request(options, (answer) => {
    let rest = ''
    answer.setEncoding('utf8')
    answer.on('data', (text) => {
      const lines = (rest + text).split('\n')
      rest = lines.pop()
      for (const line of lines) {
        if (!line.startsWith('data: {')) continue
        const [choice] = JSON.parse(line.slice(6)).choices
        if (choice) socket.emit('inference_chunk', { data: choice.delta.content })
      }
    })
    answer.on('end', () => socket.emit('inference_complete', { status: 'done' }))
  })
  request.on('error', (problem) => socket.emit('inference_error', { message: problem.message }))
  request.end(body)
}

new Server(server).of('/ws/inference').on('connection', (socket) => {
  socket.on('inference_stream', (asked) => relay(socket, asked))
})
server.listen(port, '127.0.0.1')
