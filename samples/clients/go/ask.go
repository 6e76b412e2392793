// Asks a question about a picture and prints the answer as it comes. Go 1.20 or newer, standard library only.
//
//	TUWEN_API_KEY=sk-tw-… go run ask.go PICTURE QUESTION [MODEL]
package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

type object = map[string]any

type apiError struct {
	Message string `json:"message"`
}

type chunk struct {
	Error   *apiError `json:"error"`
	Choices []struct {
		Delta struct {
			Content string `json:"content"`
		} `json:"delta"`
	} `json:"choices"`
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: ask PICTURE QUESTION [MODEL]")
		os.Exit(2)
	}
	model := "local-ocr-vision"
	if len(os.Args) > 3 {
		model = os.Args[3]
	}
	if err := ask(os.Args[1], os.Args[2], model); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func ask(picture, question, model string) error {
	data, err := os.ReadFile(picture)
	if err != nil {
		return err
	}
	// Tuwen looks at the bytes, so the label need not fit.
	url := "data:image/jpeg;base64," + base64.StdEncoding.EncodeToString(data)
	body, err := json.Marshal(object{
		"model":  model,
		"stream": true,
		"messages": []object{{
			"role": "user",
			"content": []object{
				{"type": "text", "text": question},
				{"type": "image_url", "image_url": object{"url": url}},
			},
		}},
	})
	if err != nil {
		return err
	}
	baseURL := os.Getenv("TUWEN_BASE_URL")
	if baseURL == "" {
		baseURL = "http://127.0.0.1:8000/v1"
	}
	request, err := http.NewRequest(http.MethodPost, baseURL+"/chat/completions", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+os.Getenv("TUWEN_API_KEY"))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		var refused chunk
		if err := json.NewDecoder(response.Body).Decode(&refused); err != nil || refused.Error == nil {
			return errors.New(response.Status)
		}
		return fmt.Errorf("%d: %s", response.StatusCode, refused.Error.Message)
	}
	return printAnswer(response.Body)
}

func printAnswer(body io.Reader) error {
	scanner := bufio.NewScanner(body)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		data, isData := strings.CutPrefix(scanner.Text(), "data: ")
		if !isData {
			continue // empty lines, and comments that keep the connection awake
		}
		if data == "[DONE]" {
			fmt.Println()
			return nil
		}
		var piece chunk
		if err := json.Unmarshal([]byte(data), &piece); err != nil {
			return err
		}
		if piece.Error != nil {
			return errors.New(piece.Error.Message)
		}
		if len(piece.Choices) > 0 {
			fmt.Print(piece.Choices[0].Delta.Content)
		}
	}
	if err := scanner.Err(); err != nil {
		return err
	}
	return errors.New("the answer was cut short")
}
