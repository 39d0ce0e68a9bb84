/* Reads a golden file and computes parts of it again, with nothing but the C library.

   usage: check_golden FILE.safetensors      (of the class AlbertModel)
   The exit status is 0 if all is equal to rounding, 1 if something differs, 2 if it cannot be read. */

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const double *data;
    size_t rows, columns; /* all axes but the last; the last */
} Tensor;

static char *header;
static unsigned char *numbers;
static uint64_t numbers_size;

static void fail(const char *what, const char *name)
{
    fprintf(stderr, "%s %s\n", what, name);
    exit(2);
}

/* The header is JSON: "NAME":{"dtype":"F64","shape":[2,8,6],"data_offsets":[0,768]}. The manifest,
   which stands in a string, has its quotes escaped, so a name in plain quotes is a key. */
static Tensor tensor(const char *name)
{
    char key[256];
    snprintf(key, sizeof key, "\"%s\":{\"dtype\":\"F64\",\"shape\":[", name);
    const char *place = strstr(header, key);
    if (place == NULL)
        fail("no tensor", name);
    place += strlen(key);
    Tensor found = {NULL, 1, 1};
    while (*place != ']') {
        char *end;
        found.rows *= found.columns;
        found.columns = strtoull(place, &end, 10);
        place = *end == ',' ? end + 1 : end;
    }
    uint64_t start, stop;
    if (sscanf(place, "],\"data_offsets\":[%llu,%llu]", (unsigned long long *)&start,
               (unsigned long long *)&stop) != 2)
        fail("no offsets of", name);
    if (stop > numbers_size || stop - start != 8 * found.rows * found.columns)
        fail("wrong offsets of", name);
    found.data = (const double *)(numbers + start);
    return found;
}

static void read_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint64_t length;
    if (file == NULL || fread(&length, 8, 1, file) != 1)
        fail("cannot read", path);
    fseek(file, 0, SEEK_END);
    uint64_t size = (uint64_t)ftell(file);
    if (length > size - 8)
        fail("cut short:", path);
    numbers_size = size - 8 - length;
    header = malloc(length + 1);
    numbers = malloc(numbers_size + 1);
    fseek(file, 8, SEEK_SET);
    if (fread(header, 1, length, file) != length ||
        fread(numbers, 1, numbers_size, file) != numbers_size)
        fail("cannot read", path);
    header[length] = 0;
    fclose(file);
}

static int wrong = 0;

/* A sum of so many terms may be off by a rounding of each, relative to their absolute values. */
static void check(const char *name, double given, double computed, double absolute, size_t terms)
{
    if (!(fabs(given - computed) <= (double)(terms + 4) * DBL_EPSILON * absolute)) {
        printf("%s: %.17g, computed %.17g\n", name, given, computed);
        wrong = 1;
    }
}

static void check_linear(const char *x_name, const char *weight_name, const char *bias_name,
                         const char *y_name)
{
    Tensor x = tensor(x_name), weight = tensor(weight_name), bias = tensor(bias_name);
    Tensor y = tensor(y_name);
    for (size_t row = 0; row < x.rows; row++)
        for (size_t m = 0; m < weight.rows; m++) {
            double sum = bias.data[m], absolute = fabs(sum);
            for (size_t n = 0; n < x.columns; n++) {
                double term = x.data[row * x.columns + n] * weight.data[m * x.columns + n];
                sum += term;
                absolute += fabs(term);
            }
            check(y_name, y.data[row * y.columns + m], sum, absolute, x.columns + 1);
        }
}

/* dW = sum over rows of dy x */
static void check_weight_gradient(const char *x_name, const char *dy_name, const char *dw_name)
{
    Tensor x = tensor(x_name), dy = tensor(dy_name), dw = tensor(dw_name);
    for (size_t m = 0; m < dy.columns; m++)
        for (size_t n = 0; n < x.columns; n++) {
            double sum = 0, absolute = 0;
            for (size_t row = 0; row < x.rows; row++) {
                double term = dy.data[row * dy.columns + m] * x.data[row * x.columns + n];
                sum += term;
                absolute += fabs(term);
            }
            check(dw_name, dw.data[m * x.columns + n], sum, absolute, x.rows);
        }
}

static void check_layer_norm(const char *x_name, const char *weight_name, const char *bias_name,
                             const char *y_name)
{
    Tensor x = tensor(x_name), weight = tensor(weight_name), bias = tensor(bias_name);
    Tensor y = tensor(y_name);
    const char *key = "\\\"layer_norm_eps\\\":", *place = strstr(header, key);
    if (place == NULL)
        fail("no", "layer_norm_eps");
    double eps = strtod(place + strlen(key), NULL);
    size_t n = x.columns;
    for (size_t row = 0; row < x.rows; row++) {
        const double *values = x.data + row * n;
        double mean = 0, variance = 0, largest = 0;
        for (size_t i = 0; i < n; i++) {
            mean += values[i] / (double)n;
            largest = fmax(largest, fabs(values[i]));
        }
        for (size_t i = 0; i < n; i++)
            variance += (values[i] - mean) * (values[i] - mean) / (double)n;
        double deviation = sqrt(variance + eps);
        /* The centred values are as wrong as the largest value's rounding. */
        double condition = 1 + largest / deviation;
        for (size_t i = 0; i < n; i++) {
            double scaled = (values[i] - mean) / deviation * weight.data[i];
            double absolute = condition * (fabs(weight.data[i]) + fabs(scaled)) + fabs(bias.data[i]);
            check(y_name, y.data[row * n + i], scaled + bias.data[i], absolute, n);
        }
    }
}

int main(int count, char **arguments)
{
    if (count != 2)
        fail("usage:", "check_golden FILE.safetensors");
    read_file(arguments[1]);
    check_layer_norm("forward/embeddings.add_position", "parameters/embeddings.LayerNorm.weight",
                     "parameters/embeddings.LayerNorm.bias", "forward/embeddings.LayerNorm");
    check_linear("forward/embeddings.LayerNorm",
                 "parameters/encoder.embedding_hidden_mapping_in.weight",
                 "parameters/encoder.embedding_hidden_mapping_in.bias",
                 "forward/encoder.embedding_hidden_mapping_in");
    check_weight_gradient("forward/embeddings.LayerNorm",
                          "backward/encoder.embedding_hidden_mapping_in",
                          "gradients/encoder.embedding_hidden_mapping_in.weight");
    puts(wrong ? "differs" : "equal to rounding");
    return wrong;
}
