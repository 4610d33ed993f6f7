# The quick edition in a container, without a GPU:
#   docker build -t cxr-labels .
#   docker run --rm -p 8888:8888 cxr-labels                 JupyterLab at http://localhost:8888
#   docker run --rm cxr-labels make replay                  the tables again from published predictions
FROM python:3.11-slim-bookworm
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*
# PyTorch's builds without CUDA: uv takes them from PyTorch's own index.
ENV UV_TORCH_BACKEND=cpu
WORKDIR /cxr-labels
COPY . .
RUN make setup
EXPOSE 8888
CMD ["make", "lab", "PORT=8888", "LAB=--ip=0.0.0.0 --no-browser --allow-root"]
