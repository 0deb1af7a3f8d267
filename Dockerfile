# The image of lifeboat and lifeboat-worker: static programs, no root.
FROM golang:1.26.4 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN make build BIN=/out && mkdir -m 0700 /out/data

# A shell and its tools, because scripts and servers of local sites use them.
FROM alpine:3.22.2
COPY --from=build /out/lifeboat /out/lifeboat-worker /usr/local/bin/
COPY --from=build --chown=65532:65532 /out/data /data
USER 65532:65532
ENV HOME=/data
WORKDIR /data
VOLUME /data
ENTRYPOINT ["lifeboat-worker"]
CMD ["--help"]
