// Feeds a fuzz target where there is no libFuzzer: random inputs from a seed, for so many seconds; or the files
// that are named, to repeat what was found.
//
//     fuzz_kernel [-max_total_time=SECONDS] [-seed=NUMBER] [FILE...]
//
// The input that is being tried lies in `fuzz-input` of the current folder, and stays there after a crash.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Input = std::vector<std::uint8_t>;

// Noise, long runs, and few different bytes: what random numbers alone hardly come upon.
Input random_input(std::mt19937& random) {
    Input input(random() % 1500);
    const unsigned levels = 1u << random() % 9, run = 1 + random() % 20;
    for (std::size_t i = 0; i < input.size(); ++i)
        input[i] = i >= 8 && i % run != 0 ? input[i - 1] : std::uint8_t(i < 8 ? random() : random() % levels);
    return input;
}

}  // namespace

int main(int count, char** words) {
    double seconds = 60;
    unsigned seed = 0;
    bool named = false;
    for (int i = 1; i < count; ++i) {
        const std::string word = words[i];
        if (word.rfind("-max_total_time=", 0) == 0) {
            seconds = std::stod(word.substr(16));
        } else if (word.rfind("-seed=", 0) == 0) {
            seed = unsigned(std::stoul(word.substr(6)));
        } else if (word[0] != '-') {
            std::ifstream file(word, std::ios::binary);
            const Input input((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
            LLVMFuzzerTestOneInput(input.data(), input.size());
            named = true;
        }
    }
    if (named) return 0;
    const auto begun = std::chrono::steady_clock::now();
    const auto passed = [&] {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    };
    std::mt19937 random(seed);
    long tried = 0;
    for (; passed() < seconds; ++tried) {
        const Input input = random_input(random);
        std::ofstream("fuzz-input", std::ios::binary)
            .write(reinterpret_cast<const char*>(input.data()), std::streamsize(input.size()));
        LLVMFuzzerTestOneInput(input.data(), input.size());
    }
    std::remove("fuzz-input");
    std::printf("Done %ld runs in %.0f second(s)\n", tried, passed());
    return 0;
}
