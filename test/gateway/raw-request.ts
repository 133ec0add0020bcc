import { connect } from "node:net";

/** Sends bytes as they are and gives all that comes back until the other side closes, or until `limitSeconds`. */
export function rawRequest(port: number, text: string, limitSeconds = 5): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(text, "latin1"));
    let answer = "";
    const timer = setTimeout(() => socket.destroy(), limitSeconds * 1000);
    socket.setEncoding("latin1");
    socket.on("data", (data: string) => (answer += data));
    socket.on("error", (error: NodeJS.ErrnoException) => (error.code === "ECONNRESET" ? undefined : reject(error)));
    socket.on("close", () => {
      clearTimeout(timer);
      resolve(answer);
    });
  });
}

/** The status of a raw answer; 0 for a connection that was closed without one. */
export function statusOf(answer: string): number {
  return Number(/^HTTP\/1\.[01] (\d{3})/.exec(answer)?.[1] ?? 0);
}
